"""The one exception a user is meant to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


class ZetaError(Exception):
    """Bad input, said in one line.

    Parameters
    ----------
    where : str or Path
        The file or the parameter's path (``params.yaml: model.width``).
    problem : str
        What was found and what was expected.
    remedy : str
        What the user can do.
    offset : int, optional
        Byte offset in the file.
    """

    def __init__(
        self, where: str | Path, problem: str, remedy: str, *, offset: int | None = None
    ) -> None:
        self.where, self.problem, self.remedy, self.offset = str(where), problem, remedy, offset
        super().__init__(self.where, problem, remedy)  # what pickling between processes keeps

    def __str__(self) -> str:
        at = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.where}{at}: {self.problem}. {self.remedy}"


def run_stage(stage: Callable[[], None]) -> None:
    """Run a stage; a :class:`ZetaError` becomes one line on stderr and exit status 1."""
    try:
        stage()
    except ZetaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
