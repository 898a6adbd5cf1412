"""Threads that wait give the core away soon: beside another job spinning stalls what they wait for."""

import subprocess
import sys

import pytest

CODE = """
import os, sys, {module}
loaded = {{"numpy", "torch", "numba", "scipy"}} & set(sys.modules)
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OPENBLAS_THREAD_TIMEOUT"), len(loaded))
"""
# What numpy's and scipy's OpenBLAS burn in turns on their own, against one that sleeps at once.
BLAS = """
import zetalib, numpy, resource, scipy.linalg
a = numpy.random.default_rng(0).standard_normal((300, 300))
gram = a @ a.T + 300 * numpy.eye(300)
for _ in range(2): a @ a, scipy.linalg.cholesky(gram)
def burnt(): used = resource.getrusage(resource.RUSAGE_SELF); return used.ru_utime + used.ru_stime
before = burnt()
for _ in range(20):
    a @ a; scipy.linalg.cholesky(gram)
    for _ in range(20_000): pass
print(burnt() - before)
"""


def said(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("module", ["zetalib", "zetalib.errors"])
def test_waiting_is_settled_before_any_library_with_threads_is_loaded(module):
    assert said(CODE.format(module=module)) == ["2000", "14", "0"]


def test_what_the_user_set_stays():
    code = CODE.format(module="zetalib")
    assert said(code, GOMP_SPINCOUNT="5", OPENBLAS_THREAD_TIMEOUT="20") == ["5", "20", "0"]
    assert said(code, OMP_WAIT_POLICY="PASSIVE") == ["None", "14", "0"]  # it says all there is


def test_idle_threads_of_blas_do_not_burn_the_cores():
    own, asleep = (float(said(BLAS, **e)[0]) for e in ({}, {"OPENBLAS_THREAD_TIMEOUT": "4"}))
    assert own < 3 * asleep + 0.5
