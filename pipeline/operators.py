"""What operator trained networks are, outside the graph: the page of small networks beside another.

    python -m pipeline.operators data/results/arithmetic-small-1337/model ...

Each is looked at as stage claims looks at the graph's own, on the calibration split cut to the
network's context; `metrics/operator/NAME.json` and `plots/operator/NAME/*.csv` are written.
"""

import argparse
from pathlib import Path

from zetalib import atomic, params
from zetalib.analysis import claims, linear_response
from zetalib.baselines import autoregression
from zetalib.data import window
from zetalib.data.window import Windows
from zetalib.errors import run_stage
from zetalib.inverse import solutions
from zetalib.network import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="of saved models")
    folders = parser.parse_args().folders
    p = params.load()
    fit, near = (window.load("data/windows", split) for split in ("train", "calibration"))
    ar = autoregression.best_ar(fit, p.baselines.ar_orders, p.baselines.ar_skips)
    cache = solutions.load("data/inversion/calibration.safetensors")
    for folder in folders:
        network = model.load(folder)
        windows = Windows(near.spacing[:, : network.context + 1], near.n, near.gamma)
        found, tables, held = linear_response.extract(
            network, windows, ar, p.laws.windows, p.laws.seed, cache
        )
        name = folder.parent.name if folder.name == "model" else folder.name
        for kind, table in tables.items():
            atomic.write_table(f"plots/operator/{name}/{kind}.csv", table)
        settled = claims.rows(claims.settle(held))
        atomic.write_json(f"metrics/operator/{name}.json", found | {"claims": settled})
        print(f"{name}: notches at log p {found['lines']['notch_p']}, {found['correlations']}")


if __name__ == "__main__":
    run_stage(main)
