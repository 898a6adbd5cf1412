"""Write aside, then rename: a file or folder under its final name is always whole.

What holds NaN or infinity is not written at all: here metrics and plots end, and such a number
would be read as one that was measured.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zetalib.errors import ZetaError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: str | Path, ours: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` on success, remove it on failure.

    The rename is atomic and durable (the file is fsynced first), so a crash at any moment
    leaves either the old content or the new.

    Parameters
    ----------
    ours : callable, optional
        Whether a file of a folder that is to be replaced is one that we wrote; otherwise those
        are whose names are written again.

    Raises
    ------
    ZetaError
        If the folder holds a file that is not ours: it is left as it is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    _remove(aside)
    try:
        yield aside
        if aside.is_file():
            with aside.open("rb") as handle:
                os.fsync(handle.fileno())
        elif path.is_symlink() and path.is_dir():
            problem = "a link to a folder stands where the stage writes its own"
            raise ZetaError(path, problem, "Remove the link (not what it leads to).")
        elif path.is_dir():
            check_ours(path, ours or (lambda old: (aside / old.relative_to(path)).exists()))
            shutil.rmtree(path)
        os.replace(aside, path)
    finally:
        _remove(aside)


def check_ours(folder: Path, ours: Callable[[Path], bool]) -> None:
    """Refuse to go on where a folder that is to be replaced holds somebody else's file.

    Raises
    ------
    ZetaError
        Naming the first such file.
    """
    for path in sorted(folder.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and not ours(path):
            problem = (
                "this file is not one that the pipeline wrote, and its folder is to be replaced"
            )
            raise ZetaError(path, problem, "Move it elsewhere, then run it again.")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as stable, human-readable JSON; None stands for what is undefined.

    Raises
    ------
    ZetaError
        If a number is NaN or infinite, by its keys.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    except ValueError:
        for keys, number in _not_finite(content):
            problem = f"{keys or 'it'} is {number}, a finite number or null is expected"
            raise ZetaError(path, problem, _UNDEFINED) from None
        raise
    write_bytes(path, (text + "\n").encode())


def write_metrics(path: str | Path, content: dict[str, Any]) -> None:
    """Write all that a stage measured, as :func:`write_json`, in a list of one.

    DVC's tables show every number of a metrics file, but none inside a list: thousands stay out of
    `dvc metrics diff` and `dvc exp show`, which are for `metrics/summary.json`. The file must be a
    metric all the same: with another output that git keeps the stage would not be restored from
    DVC's run cache (findings/).
    """
    write_json(path, [content])


def read_metrics(path: str | Path) -> dict[str, Any]:
    """What :func:`write_metrics` wrote.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is something else.
    """
    found = json.loads(Path(path).read_text())
    if not (isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)):
        raise ValueError("not a list of one dictionary")
    content: dict[str, Any] = found[0]
    return content


def write_table(path: str | Path, table: pd.DataFrame, blank: Collection[str] = ()) -> None:
    """Write a table as CSV; `blank` are columns where a number may be missing, by design.

    Raises
    ------
    ZetaError
        If another number is missing or one is infinite, by its row (from 0) and column.
    """
    for name in table.columns:
        bad = table[name].isin([math.inf, -math.inf])
        if name not in blank:
            bad |= table[name].isna()
        if bad.any():
            row = int(bad.to_numpy().argmax())
            problem = f"row {row}: {name} is {table[name].iloc[row]}, a finite number is expected"
            raise ZetaError(path, problem, _UNDEFINED)
    write_bytes(path, table.to_csv(index=False).encode())


_UNDEFINED = "It was not written; take more zeros or see the forecasts it was measured on."


def _not_finite(content: Any, keys: str = "") -> Iterator[tuple[str, float]]:
    """What is NaN or infinite in nested dicts and lists, by its keys joined by dots."""
    if isinstance(content, float):
        if not math.isfinite(content):
            yield keys, content
        return
    if isinstance(content, dict):
        parts = list(content.items())
    elif isinstance(content, list | tuple):
        parts = list(enumerate(content))
    else:
        parts = []
    for key, part in parts:
        yield from _not_finite(part, f"{keys}.{key}" if keys else str(key))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
