"""Stage claims: the published claims re-tested, and what operator the network is.

The network is looked at on the calibration split.
"""

import numpy as np

from zetalib import atomic, params
from zetalib.analysis import claims, late_targets, linear_response
from zetalib.baselines import autoregression
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import ahead, forecasts, law_ahead, stretches
from zetalib.inverse import solutions
from zetalib.network import model


def main() -> None:
    p = params.load()
    fit, near = (window.load("data/windows", split) for split in ("train", "calibration"))
    network = model.load("data/model")
    cache = solutions.load_split("calibration")
    gamma, spacing = window.record(fit, p.laws.zeros)
    if p.unfold.variant == "A":  # claims are of spacings of mean 1
        spacing = spacing * np.log(gamma / (2 * np.pi)) / np.log(gamma)
    some = stretches.stretches(
        near, p.laws.trajectories, p.evaluate.contexts[0], p.laws.horizon, "laws.horizon"
    )
    roll = ahead.roller(network, p.evaluate, cache, law_ahead.load("data/law_ahead.json"))
    rolled = roll(some.contexts, some.heights, p.laws.horizon)
    made = forecasts.read("data/forecasts/calibration.parquet", "calibration", near)
    means = made.mixture.mean().reshape(len(near), -1)
    ar = autoregression.best_ar(fit, p.baselines.ar_orders, p.baselines.ar_skips)
    formula = late_targets.read_means("data/laws.safetensors")
    extracted, plots, of_network = linear_response.extract(
        network, near, ar, p.laws.windows, p.laws.seed, cache, formula
    )
    settled = claims.settle(
        [
            claims.acf_learned(rolled.draws[:, 0], spacing, 10, p.laws.seed),
            *claims.read(atomic.read_metrics("metrics/laws.json")["claims"]),
            *claims.of_forecasts(near.spacing.numpy(), means, p.laws.seed),
            *of_network,
        ]
    )
    for name, table in plots.items():
        atomic.write_table(f"plots/claims/{name}.csv", table)
    atomic.write_metrics(
        "metrics/claims.json", {"operator": extracted, "claims": claims.rows(settled)}
    )
    for claim in settled:
        print(f"{claim.name:20s} {claim.statistic:9.4f} p {claim.adjusted:.2g} {claim.verdict}")


if __name__ == "__main__":
    run_stage(main)
