"""Stage train: fit the forecaster; a killed run resumes from data/checkpoints.

Data-parallel on this machine by train.processes, anywhere by torchrun -m pipeline.train.
"""

from functools import partial

from zetalib import atomic, params
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.inverse import solutions
from zetalib.network import model
from zetalib.training import distributed, engine, tracking

CHECKPOINT = "data/checkpoints/train.pt"
LIVE = "data/live"  # never the same twice: not tracked


def main() -> None:
    p = params.load()
    if p.train.processes > 1 and not distributed.launched():
        distributed.launch("pipeline.train", p.train.processes)
        return
    windows = window.load("data/windows", "train")
    cache = solutions.load("data/inversion/train.safetensors") if p.model.inversion else None
    with (
        distributed.join(engine.setup(p.train)) as group,
        tracking.following(p, LIVE, group) as watch,
    ):
        result = engine.train(
            windows,
            p.model,
            p.memory,
            p.losses,
            p.train,
            CHECKPOINT,
            partial(print, flush=True),
            watch,
            group,
            cache,
        )
    if group.rank == 0:
        model.save(result.model, "data/model")
        atomic.write_bytes("plots/learning_curve.csv", engine.curve_csv(result).encode())
        atomic.write_bytes(f"{LIVE}/curve.csv", engine.timed_curve_csv(result).encode())
        atomic.write_metrics("metrics/train.json", engine.summary(result))
        engine.discard(CHECKPOINT)


if __name__ == "__main__":
    run_stage(main)
