"""Stage rollouts: what rollouts start from, the same for every network.

Contexts solved as an inverse problem, the zeros ahead of them, and rivals rolled out.
"""

import numpy as np

from zetalib import params
from zetalib.baselines import autoregression, rollouts
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import stretches
from zetalib.inverse import solutions


def main() -> None:
    p = params.load()
    plans = stretches.plans(p.evaluate, p.calibrate, p.diagnose, p.laws)
    for split, wanted in plans.items():
        windows = window.load("data/windows", split)
        cache = solutions.load(f"data/inversion/{split}.safetensors")
        for name, plan in wanted.items():
            longest, horizon = max(plan.steps), max(plan.steps.values())
            if not horizon:
                continue
            some = stretches.stretches(
                windows, plan.trajectories, longest, horizon, plan.steered_by
            )
            known = np.column_stack([some.contexts, some.futures[:, : plan.forced]])
            heights, ahead = some.heights, {}
            if p.invert.solve:
                solved = cache.stacked(known, heights)
                cache.add(known, heights, solved)
                ahead = {t: cache.ahead(known[:, :t], heights, h) for t, h in plan.steps.items()}
            else:  # the file is there, and holds nothing
                known, heights = known[:0], heights[:0]
                solved = cache.stacked(known, heights)
            path = f"data/rollouts/{split}_{name}.safetensors"
            solutions.save(path, known, heights, solved, ahead, p.invert.noise)
            print(f"{split}, {name}: {len(known)} contexts solved", flush=True)
    scores, tail = plans["val"]["scores"], window.load("data/windows", "val")
    longest, horizon = max(scores.steps), max(scores.steps.values())
    some = stretches.stretches(tail, scores.trajectories, longest, horizon)
    stretch = np.column_stack([some.contexts, some.futures])
    ar = autoregression.best_ar(
        window.load("data/windows", "train"), p.baselines.ar_orders, p.baselines.ar_skips
    )
    rolled = {
        t: rollouts.roll_out(stretch[:, :t], some.heights, h, ar, p.evaluate.explicit)
        for t, h in scores.steps.items()
    }
    rollouts.write("data/rival_rollouts.safetensors", rolled)


if __name__ == "__main__":
    run_stage(main)
