"""The one exception a user is meant to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType

from zetalib import progress

PARAMS = "params.yaml"
COMMANDS = "pipeline"  # the folder of stages and other commands


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


def said(error: BaseException) -> str | None:
    """The line a user reads of an exception; None for what is a fault of the program."""
    if isinstance(error, ZetaError):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted. What was whole on disk still is; run it again to go on."
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({str(error) or 'no more was said'}). Free some, or take less."
    elif isinstance(error, OSError) and error.errno is not None:
        where = "a file" if error.filename is None else error.filename
        text = f"{where}: {error.strerror}. {_REMEDIES.get(error.errno, _OTHERWISE)}"
    elif isinstance(error, RuntimeError) and "no locator available" in str(error):  # numba's words
        text = f"{' '.join(str(error).split())}. Set NUMBA_CACHE_DIR to a folder you may write to."
    else:
        return None
    return f"error: {' '.join(text.split())}"


_PERMISSION = "Correct the permissions, or work in a copy of the folder; then run it again."
_REMEDIES = {
    errno.ENOENT: "Run `dvc repro` (or `dvc pull`), which makes what is missing here.",
    errno.ENOSPC: "Free room on the disk, then run it again.",
    errno.EDQUOT: "Free room on the disk, then run it again.",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
}
_OTHERWISE = "Correct that, then run it again."


def run_stage(stage: Callable[[], None]) -> None:
    """Run a stage; what :func:`said` knows becomes one line on stderr and exit status 1.

    Raises
    ------
    SystemExit
        Status 1, or that of the signal when interrupted.
    """
    main = sys.modules["__main__"]
    _go_by_name(main)
    _go_home(main)
    start = time.monotonic()
    progress.show()
    try:
        stage()
        seconds = time.monotonic() - start
        if seconds >= progress.FIRST:
            name = Path(getattr(main, "__file__", None) or "it").stem
            print(f"{name} took {progress.duration(seconds)}", file=sys.stderr)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        line = said(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        raise SystemExit(1) from None


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: one line of what :func:`said` knows, a traceback of all else."""
    line = said(error)
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(line, file=sys.stderr)


def _go_by_name(main: ModuleType) -> None:
    """Start a script that was started by its path anew by its name: its package looks first."""
    file = Path(getattr(main, "__file__", None) or "").resolve()
    if file.parent.name == COMMANDS and getattr(main, "__spec__", None) is None:
        path = os.pathsep.join(filter(None, [str(file.parents[1]), os.environ.get("PYTHONPATH")]))
        line = [sys.executable, "-m", f"{COMMANDS}.{file.stem}", *sys.argv[1:]]
        os.execve(sys.executable, line, {**os.environ, "PYTHONPATH": path})


def go_home(root: Path) -> None:
    """Work in `root`, the repository, unless the present folder has a params.yaml of its own."""
    if not Path(PARAMS).exists() and (root / PARAMS).exists():
        print(f"working in {root}", file=sys.stderr)
        os.chdir(root)


def _go_home(main: ModuleType) -> None:
    file = Path(getattr(main, "__file__", None) or "").resolve()
    if file.parent.name == COMMANDS:
        go_home(file.parents[1])
