"""Compiled kernels, kept from one process to the next by what they were compiled from.

numba keeps a kernel beside its source file, by that file's path and time: each clone compiles anew,
and a kernel whose callee in another file has changed is taken for good. Here the place is one
folder for all checkouts of a user (`XDG_CACHE_HOME`, or `NUMBA_CACHE_DIR` if it is set), and what
is kept is found by a digest of the kernel's module and of all of this library that it imports.

Keep only kernels that Python calls (`cached`) and let their callees be `inner`. A kept kernel is
closed: what it calls is compiled into it and open to no other, so that it is the same bits fresh
and kept, whatever ran before in the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import Linkage
from numba.core.caching import CompileResultCacheImpl, _CacheLocator
from numba.core.codegen import CPUCodeLibrary

from zetalib import provenance

LONG_AGO = 60 * 86400.0  # seconds
_COPIED = Linkage.linkonce_odr, Linkage.available_externally
_INNER: set[str] = set()  # names of kernels that only kernels call


def cached(**options: Any) -> Any:
    """`numba.njit` with a cache; for kernels that Python calls."""
    return numba.njit(cache=True, **options)


def inner(**options: Any) -> Any:
    """`numba.njit` for kernels that kernels call: optimised as part of those alone.

    numba optimises each kernel with all that it calls, again and again on the way up: most of the
    time to compile. Called from Python, as tests do, such a kernel is correct but slow.
    """

    def compile_later(function: Any) -> Any:
        _INNER.add(function.__qualname__)
        return numba.njit(**options)(function)

    return compile_later


@cache
def _digest(module: Path) -> str:
    """Digest of a module, of what it imports of the library, of how it is compiled, and numba."""
    how = provenance.code(__file__)
    return provenance.key(provenance.code(module), how, numba.__version__)


@cache
def _folder() -> Path:
    """Where kernels are kept: a folder of the user, or one for this process if none is writable."""
    chosen = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(chosen).expanduser() / "zetalib" / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # no home, or nothing may be written there
        # Not a shared folder of a fixed name: what is kept there is run.
        folder = Path(_scratch().name)
    return folder


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="zetalib-kernels-")


def _forget(folder: Path) -> None:
    """Remove what was compiled from sources of long ago."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > LONG_AGO:
                shutil.rmtree(path)


class _ByContent(_CacheLocator):  # type: ignore[misc]
    """Where numba keeps a kernel of this library."""

    def __init__(self, function: Any, file: str) -> None:
        self._name, self._stamp = function.__module__, _digest(Path(file).resolve())

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _ByContent | None:
        ours = provenance.PACKAGE in Path(py_file).resolve().parents
        return cls(py_func, py_file) if ours else None

    def ensure_cache_path(self) -> None:
        path = Path(self.get_cache_path())
        if not path.is_dir():
            _forget(path.parent)
        super().ensure_cache_path()

    def get_cache_path(self) -> str:
        return str(_folder() / self._stamp[:20])

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return str(self._name)


if _ByContent not in CompileResultCacheImpl._locator_classes:
    CompileResultCacheImpl._locator_classes.insert(0, _ByContent)


def _close(library: CPUCodeLibrary) -> None:
    """Make what a kernel calls its own before it is optimised, and leave inner kernels for later.

    numba leaves the copies of callees in a compiled kernel open to be merged, and the loader takes
    whichever copy came first into the process: another kernel's, or the callee's own where it was
    compiled here. Copies are optimised in their context, so the last bits would hang on that.
    """
    is_inner = library.name in _INNER
    for function in library._final_module.functions:
        if not function.is_declaration and function.linkage in _COPIED:
            # An inner kernel finds its callees where they were compiled by themselves.
            function.linkage = "available_externally" if is_inner else "internal"
    if not is_inner:
        _optimise(library)


_optimise = CPUCodeLibrary._optimize_final_module
CPUCodeLibrary._optimize_final_module = _close
