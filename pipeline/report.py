"""Stage report: one page for a reader, from what the other stages measured."""

import json
from pathlib import Path

import pandas as pd

from zetalib import atomic, page
from zetalib.errors import run_stage

METRICS = ["evaluate", "skill", "contexts", "laws", "distill"]
PLOTS = ["law", "contexts", "pit", "reliability", "coverage_by_width", "rollout", "statistics"]
PLOTS += [f"laws/{name}" for name in ("number_variance", "rigidity", "form_factor")]
PLOTS += ["laws/primes", "laws/gain"]


def main() -> None:
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in METRICS}
    plots = {name: pd.read_csv(f"plots/{name}.csv") for name in PLOTS}
    atomic.write_bytes("docs/report.html", page.page(metrics, plots).encode())


if __name__ == "__main__":
    run_stage(main)
