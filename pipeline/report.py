"""Stage report: one page for a reader, from what the other stages measured."""

from pathlib import Path

import pandas as pd

from zetalib import atomic, page, table
from zetalib.errors import run_stage


def main() -> None:
    folder = Path("plots")
    plots = {
        str(path.relative_to(folder).with_suffix("")): pd.read_csv(path)
        for path in sorted(folder.rglob("*.csv"))
    }
    atomic.write_bytes("docs/report.html", page.page(table.read("metrics"), plots).encode())


if __name__ == "__main__":
    run_stage(main)
