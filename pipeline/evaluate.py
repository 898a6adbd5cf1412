"""Stage evaluate: score the forecaster on the val tail, alone and beside its rivals."""

from zetalib import atomic, params
from zetalib.baselines import rollouts
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import ahead, forecasts, interventions
from zetalib.inverse import solutions
from zetalib.network import model
from zetalib.scoring import conformal, coverage, evaluate, skill, summary


def main() -> None:
    p = params.load()
    calibrator = conformal.read("data/calibrator.json")
    windows = window.load("data/windows", "val")
    known = skill.read("data/rivals.parquet", window.targets(windows).size)
    network = model.load("data/model")
    cache = solutions.load_split("val")
    found = forecasts.forecast(network, windows, cache)
    forecasts.write("data/forecasts/val.parquet", found, "val")
    forecaster = interventions.forecaster(
        network, cache, fade=p.evaluate.fade, gate=p.evaluate.gate
    )
    of_rivals = rollouts.read("data/rollouts/rivals.safetensors")
    rolled = evaluate.rollouts(windows, forecaster, p.evaluate, of_rivals)
    metrics, plots = evaluate.evaluate(found, rolled, p.evaluate)
    metrics["coverage"], covered = coverage.report(found, windows, calibrator, p.baselines.block)
    plots |= covered
    metrics["ahead"] = coverage.report_ahead(
        *ahead.sample_ahead(windows, network, p.evaluate, p.calibrate, cache), calibrator
    )
    scores = {"network": skill.by_target(found.mixture, found.y)}
    scores |= known
    count, length = windows.spacing.shape
    beside, plots["law"] = skill.compare(scores, count, length, p.baselines.block)
    for name, table in plots.items():
        atomic.write_table(f"plots/{name}.csv", table, evaluate.BLANK.get(name, ()))
    evaluate.draw_forecasts(found, "plots/forecasts.svg")
    atomic.write_metrics("metrics/evaluate.json", metrics)
    atomic.write_metrics("metrics/skill.json", beside)
    atomic.write_json("metrics/summary.json", summary.summarise(metrics, beside))
    print(" | ".join(f"{name} {metrics[name]:.4f}" for name in ("nll", "mae", "crps", "pit_std")))


if __name__ == "__main__":
    run_stage(main)
