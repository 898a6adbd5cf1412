"""Stage distill: formulas for the forecast, fitted on the calibration split, scored on the tail."""

from zetalib import atomic, distill, forecasts, params
from zetalib.errors import run_stage


def main() -> None:
    table, metrics = distill.distill(
        forecasts.read("data/forecasts/calibration.parquet"),
        forecasts.read("data/forecasts/val.parquet"),
        params.load().distill,
    )
    atomic.write_bytes("data/formulas/formulas.csv", table.to_csv(index=False).encode())
    atomic.write_json("data/formulas/formulas.json", distill.rows(table))
    atomic.write_json("metrics/distill.json", metrics)
    print(table.to_string(index=False, max_colwidth=60))
    print(f"chosen: {metrics['formula']}")


if __name__ == "__main__":
    run_stage(main)
