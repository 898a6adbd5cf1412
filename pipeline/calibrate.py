"""Stage calibrate: conformal adjustments from the calibration split alone."""

from zetalib import atomic, params
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.forecasting import ahead, forecasts, law_ahead
from zetalib.inverse import solutions
from zetalib.network import model
from zetalib.scoring import conformal


def main() -> None:
    p = params.load()
    c = p.calibrate
    network = model.load("data/model")
    cache = solutions.load_split("calibration")
    windows = window.load("data/windows", "calibration")
    found = forecasts.forecast(network, windows, cache)
    raw = conformal.intervals(found.mixture, c.levels)
    calibrator = conformal.calibrate(raw, found.y, c.classes, c.step)
    laws = law_ahead.Laws({})
    if network.config.inversion:
        laws = ahead.fit_laws(windows, p.evaluate, c, cache)
    else:
        calibrator = calibrator.with_ahead(*ahead.sample_ahead(windows, network, p.evaluate, c))
    law_ahead.save("data/law_ahead.json", laws)
    forecasts.write("data/forecasts/calibration.parquet", found, "calibration")
    atomic.write_json("data/calibrator.json", calibrator.model_dump())
    held_out = conformal.held_out(raw, found.y, c.classes, c.step)
    atomic.write_metrics("metrics/calibrate.json", held_out)
    for level, kinds in held_out.items():
        said = ", ".join(f"{kind} {part['coverage']:.4f}" for kind, part in kinds.items())
        print(f"level {level} fitted to the lower half covers of the upper: {said}")


if __name__ == "__main__":
    run_stage(main)
