"""Stage distill: formulas fitted on the calibration split and scored on the tail; is pi in them?"""

from zetalib import atomic, params
from zetalib.analysis import distill
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import forecasts


def main() -> None:
    p = params.load()
    d, length = p.distill, p.window.length
    both = {split: window.load("data/windows", split) for split in ("calibration", "val")}
    fit, tail = (
        distill.targets(
            forecasts.read(f"data/forecasts/{split}.parquet", split, windows), windows, d
        )
        for split, windows in both.items()
    )
    table, quoted = distill.distill(fit, tail, length, d, distill.read_fronts("data/truth.json"))
    verdict = distill.pi(tail, d.known, length, d.seed)
    plot = distill.fronts(table, d.statistics[0])
    atomic.write_table("data/formulas/formulas.csv", table, distill.BLANK)
    atomic.write_json("data/formulas/formulas.json", quoted)
    atomic.write_table("plots/formulas.csv", plot)
    backend = distill.choose_backend(d)
    metrics = {"backend": backend, "formulas": distill.by_task(quoted), "pi": verdict}
    atomic.write_metrics("metrics/distill.json", metrics)
    print(table[table["chosen"]].drop(columns="chosen").to_string(index=False, max_colwidth=60))
    print(f"{verdict['question']} {verdict['answer']}")


if __name__ == "__main__":
    run_stage(main)
