"""Stage calibrate: conformal adjustments from the calibration split alone."""

from zetalib import atomic, conformal, forecasts, inversion, model, params, window
from zetalib.errors import run_stage


def main() -> None:
    p = params.load().calibrate
    found = forecasts.forecast(
        model.load("data/model", inversion.load("data/inversion/calibration.safetensors")),
        window.load("data/windows", "calibration"),
    )
    adjustments = conformal.calibrate(found.mixture, found.y, p.levels)
    forecasts.write("data/forecasts/calibration.parquet", found, "calibration")
    atomic.write_json("data/calibrator.json", {"targets": len(found.y), "adjustment": adjustments})
    atomic.write_json(
        "metrics/calibrate.json", conformal.report(found.mixture, found.y, adjustments)
    )
    print(f"adjustments from {len(found.y):,} targets: {adjustments}")


if __name__ == "__main__":
    run_stage(main)
