"""Experiments over seeds, and the pages made of them.

python -m pipeline.results run NAME ... [--size small] [--seeds 1337 42 7] [--jobs 1] [--stand-in]
python -m pipeline.results table          # docs/runs.md
python -m pipeline.results paradox        # docs/paradox.md and .svg
python -m pipeline.results curves         # docs/curves.svg
"""

import argparse
from functools import partial

from zetalib import atomic
from zetalib.errors import run_stage
from zetalib.reports import experiments, markdown_pages, results

SEEDS = [1337, 42, 7]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.results")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is not done yet, then the table")
    run.add_argument("names", nargs="+", metavar="NAME", help=", ".join(experiments.names()))
    run.add_argument("--size", default="small", help=", ".join(experiments.sizes()))
    run.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    run.add_argument("--jobs", type=int, default=1, help="runs at a time")
    run.add_argument(
        "--stand-in", action="store_true", help="score below the tail, to choose settings"
    )
    commands.add_parser("table", help="write docs/runs.md")
    paradox = commands.add_parser("paradox", help="write docs/paradox.md and docs/paradox.svg")
    paradox.add_argument(
        "--size", default=markdown_pages.PARADOX_SIZE, help=", ".join(experiments.sizes())
    )
    commands.add_parser("curves", help="write docs/curves.svg")
    chosen = parser.parse_args()

    if chosen.command == "run":
        runs = results.plan(chosen.names, chosen.size, chosen.seeds, chosen.stand_in)
        results.execute_all(runs, chosen.jobs, partial(print, flush=True))
    records = results.read()
    if chosen.command == "paradox":
        atomic.write_bytes("docs/paradox.md", markdown_pages.paradox(records, chosen.size).encode())
        markdown_pages.draw_paradox(records, chosen.size, "docs/paradox.svg")
    elif chosen.command == "curves":
        markdown_pages.draw_curves(records, "docs/curves.svg")
    elif not getattr(chosen, "stand_in", False):
        atomic.write_bytes("docs/runs.md", markdown_pages.page(records).encode())


if __name__ == "__main__":
    run_stage(main)
