"""Stage diagnose: what the forecaster is made of, measured on the calibration split."""

from zetalib import atomic, params
from zetalib.analysis import diagnostics
from zetalib.data import window
from zetalib.errors import run_stage
from zetalib.inverse import solutions
from zetalib.network import model


def main() -> None:
    p = params.load()
    network = model.load("data/model")
    cache = solutions.load_split("calibration")
    windows = window.load("data/windows", "calibration")
    report, tables = diagnostics.diagnose(
        network, windows, p.diagnose, p.evaluate.contexts[0], cache
    )
    for name, table in tables.items():
        atomic.write_table(f"plots/diagnose/{name}.csv", table, diagnostics.BLANK)
    atomic.write_metrics("metrics/diagnose.json", report)
    print(diagnostics.render(report))


if __name__ == "__main__":
    run_stage(main)
