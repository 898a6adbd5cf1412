"""Stage report: one page for a reader, from what the other stages measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from zetalib import atomic
from zetalib.errors import ZetaError, run_stage
from zetalib.reports import html_page

METRICS = ["evaluate", "skill", "contexts", "laws", "claims", "distill"]
PLOTS = ["law", "contexts", "pit", "reliability", "coverage_by_width", "rollout", "statistics"]
PLOTS += [f"laws/{name}" for name in ("number_variance", "rigidity", "form_factor")]
PLOTS += ["laws/primes", "claims/gain"]


def read(path: str, by: Callable[[Any], Any]) -> Any:
    try:
        return by(Path(path))
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({type(error).__name__})"
        raise ZetaError(
            path, problem, "Run `dvc repro`; if that does nothing, delete it."
        ) from None


def main() -> None:
    metrics = {n: read(f"metrics/{n}.json", atomic.read_metrics) for n in METRICS}
    plots = {name: read(f"plots/{name}.csv", pd.read_csv) for name in PLOTS}
    atomic.write_bytes("docs/report.html", html_page.page(metrics, plots).encode())


if __name__ == "__main__":
    run_stage(main)
