"""Stage evaluate: score the forecaster on the val tail, alone and beside its rivals."""

from functools import partial

from zetalib import atomic, compute, params
from zetalib.baselines import rollouts
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import ahead, forecasts, law_ahead
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
    laws = law_ahead.load("data/law_ahead.json")
    of_rivals = rollouts.read("data/rival_rollouts.safetensors")
    roll = ahead.roller(network, p.evaluate, cache, laws)
    rolled = evaluate.rollouts(windows, roll, p.evaluate, of_rivals)
    block, raw = p.baselines.block, conformal.intervals(found.mixture, calibrator.levels)

    def beside_rivals() -> evaluate.Found:
        scores = {"network": skill.by_target(found.mixture, found.y, raw.get(str(skill.LEVEL)))}
        count, length = windows.spacing.shape
        metrics, law = skill.compare(scores | known, count, length, block)
        return metrics, {"law": law}

    parts: list[evaluate.Found] = compute.map_forks(
        [
            partial(evaluate.of_forecasts, found),
            partial(evaluate.of_rollouts, rolled, found.y, p.evaluate),
            beside_rivals,
            partial(coverage.report, found, windows, calibrator, block, raw),
        ]
    )
    (scores, _), (err, _), (beside, _), (covered, _) = parts
    metrics = scores | err | {"coverage": covered}
    metrics["law_ahead"], metrics["ahead"] = {}, {}
    if network.config.inversion:
        metrics["law_ahead"] = coverage.report_law(laws, cache, windows, p.evaluate, p.calibrate)
    else:
        sampled = ahead.sample_ahead(windows, network, p.evaluate, p.calibrate)
        metrics["ahead"] = coverage.report_ahead(*sampled, calibrator)
    plots = {name: table for _, tables in parts for name, table in tables.items()}
    for name, table in plots.items():
        atomic.write_table(f"plots/{name}.csv", table, evaluate.BLANK.get(name, ()))
    evaluate.draw_forecasts(found, "plots/forecasts.svg")
    atomic.write_metrics("metrics/evaluate.json", metrics)
    atomic.write_metrics("metrics/skill.json", beside)
    atomic.write_json("metrics/summary.json", summary.summarise(metrics, beside))
    print(" | ".join(f"{name} {metrics[name]:.4f}" for name in ("nll", "mae", "crps", "pit_std")))


if __name__ == "__main__":
    run_stage(main)
