"""Compiled kernels are the same bits fresh and kept, and never those of other sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np

from zetalib import kernels
from zetalib.baselines import explicit_formula

ROOT = Path(__file__).parents[1]
USE = "from zetalib.outer import g; print(g(3.0), sum(g.stats.cache_hits.values()))"


def checkout(folder, inner):
    """A library of two modules: `outer` has a kernel that calls one of `inner`."""
    package = folder / "zetalib"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    for name in ("kernels.py", "provenance.py"):
        shutil.copyfile(ROOT / "zetalib" / name, package / name)
    (package / "inner.py").write_text(f"import numba\n@numba.njit\ndef f(x):\n    return {inner}\n")
    (package / "outer.py").write_text(
        "from zetalib.inner import f\nfrom zetalib.kernels import cached\n"
        "@cached()\ndef g(x):\n    return f(x) + 1\n"
    )
    return folder


def used(folder, code=USE, **environment):
    """What the code prints: what the kernel of a checkout returns, and how often it was kept."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_kernel_is_kept_until_what_it_calls_changes(tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    one = checkout(tmp_path / "one", "x * 2")
    assert used(one, **cache) == "7.0 0"
    assert used(one, **cache) == "7.0 1"
    other = checkout(tmp_path / "other", "x * 2")  # of the same sources
    assert used(other, **cache) == "7.0 1"
    checkout(one, "x * 5")
    assert used(one, **cache) == "16.0 0"
    assert used(other, **cache) == "7.0 1"


def test_a_folder_that_numba_is_told_is_used_and_none_is_needed(tmp_path):
    one = checkout(tmp_path / "one", "x * 2")
    told = {"NUMBA_CACHE_DIR": str(tmp_path / "told")}
    assert used(one, **told) == "7.0 0" and used(one, **told) == "7.0 1"
    (tmp_path / "file").write_text("")
    nowhere = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    assert used(one, **nowhere) == "7.0 0"


def test_kept_kernels_are_the_bits_of_fresh_ones():
    rng = np.random.default_rng(0)
    fresh = numba.njit(**explicit_formula.KERNEL)(explicit_formula._fill.py_func)
    a, b, table = (
        np.sort(rng.uniform(0, 9, 50)),
        np.sort(rng.uniform(0, 9, 70)),
        rng.normal(size=40_000),
    )
    found = [np.zeros((50, 70)) for _ in range(2)]
    for kernel, out in zip((explicit_formula._fill, fresh), found, strict=True):
        kernel(a, b, table, out, False)
    assert found[0].tobytes() == found[1].tobytes() and found[0].any()


def test_what_was_compiled_long_ago_is_forgotten(tmp_path):
    for name, age in (("old", 2 * kernels.LONG_AGO), ("new", 0.0)):
        (tmp_path / name).mkdir()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    kernels._forget(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


OPEN = """
from zetalib.outer import g
from llvmlite.binding import Linkage
g(3.0)
functions = next(iter(g.overloads.values())).library._final_module.functions
whole = [f for f in functions if not f.is_declaration and "inner" in f.name]
print(len(whole), [f.name for f in whole if f.linkage == Linkage.linkonce_odr])
"""


def test_a_kept_kernel_is_closed(tmp_path):
    """Or copies of its callees in other kernels, with other last bits, would be run instead."""
    one = checkout(tmp_path, "x if x < 1 else f(x / 2)")  # recursive: it is not inlined
    assert used(one, OPEN, XDG_CACHE_HOME=str(tmp_path / "cache")) == "1 []"
