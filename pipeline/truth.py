"""Stage truth: formulas for the true spacings, fitted on the calibration split.

Nothing of a network is in them; stage distill scores them beside those of its forecasts.
"""

from zetalib import params
from zetalib.analysis import distill
from zetalib.data import window
from zetalib.errors import run_stage


def main() -> None:
    p = params.load()
    targets = distill.targets(None, window.load("data/windows", "calibration"), p.distill)
    fronts = distill.fronts_of_truth(targets, p.window.length, p.distill)
    distill.write_fronts("data/truth.json", fronts)


if __name__ == "__main__":
    run_stage(main)
