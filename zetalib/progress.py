"""Progress of long work: how much is done, how fast, how long it will take. Stages switch it on.

On a terminal one line is rewritten, elsewhere plain lines follow each other, seldom. As a library
nothing is printed. No result depends on it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

FIRST = 3.0  # seconds before the first line: what is quicker says nothing
EVERY = {True: 0.5, False: 15.0}  # seconds between lines, on a terminal or not

_shown = False


def show(on: bool = True) -> None:
    """Print the progress of what :func:`track` follows from now on, to stderr."""
    global _shown
    _shown = on


def track(
    items: Iterable[Item],
    label: str,
    total: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """The items, one by one; how many have been dealt with is printed now and then.

    Parameters
    ----------
    total : how many there are; None: their length, if they have one
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    terminal = sys.stderr.isatty()
    start = last = clock()
    printed = False
    for done, item in enumerate(items, 1):
        yield item
        now = clock()
        if _shown and now - start >= FIRST and (not printed or now - last >= EVERY[terminal]):
            last, printed = now, True
            end = "\r" if terminal else "\n"
            line = describe(label, done, total, now - start)
            print(f"{line:<78}" if terminal else line, end=end, file=sys.stderr, flush=True)
    if printed and terminal:
        print(file=sys.stderr)


def describe(label: str, done: int, total: int | None, seconds: float) -> str:
    """One line: what, how many of how many, a second, and the time that is left."""
    rate = done / seconds if seconds > 0 else 0.0
    speed = f"{rate:.3g}/s" if rate >= 1 or rate == 0 else f"{1 / rate:.3g} s each"
    if not total:
        return f"{label}: {done:,} done, {speed}"
    left = duration((total - done) / rate) if rate else "?"
    return f"{label}: {done:,} of {total:,} ({done / total:.0%}), {speed}, {left} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 12 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
