#!/usr/bin/env bash
# numba's cache hands out a kernel compiled with another fastmath: the flag is no part of its key
#
# What surprised: the same file, fastmath switched by an environment variable. The process that asks for strict arithmetic is
# handed the kernel that another one compiled with fastmath, without a word, and the other way round.
# Version: numba 0.68.1, llvmlite 0.50.0.
# Why it matters: kernels that unfold or invert zeros are compiled with fastmath for speed and without it to check; a "strict"
# run that follows a fast one compares the fast kernel with itself. With fastmath, compensated sums (two floats to a height) are
# simplified away, and a test for NaN may be true of nothing.
# Guess before running: the second process recompiles, since decorator options belong to what is compiled.
# Seen: the strict process after the fast one gets 100000.0000000833 and one hit of the cache, the fast one after the strict
# one 100000.0 and one hit. Guess wrong.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: numba==0.68.1 llvmlite==0.50.0 numpy==2.4.6
cat > kernel.py <<'E'
import os
import sys

import numpy as np
from numba import njit


@njit(cache=True, fastmath=os.environ["FAST"] == "1")
def total(x):
    """Compensated sum."""
    s = lost = 0.0
    for i in range(len(x)):
        y = x[i] - lost
        t = s + y
        lost = (t - s) - y
        s = t
    return s


spacings = np.full(1_000_000, 0.1)
print(repr(float(total(spacings))), sum(total.stats.cache_hits.values()))
E
run() { FAST=$1 NUMBA_CACHE_DIR="$folder/$2" venv/bin/python kernel.py; }
venv/bin/python -c 'import numba, llvmlite; print("numba", numba.__version__, "llvmlite", llvmlite.__version__)'
strict=$(run 0 a)
fast=$(run 1 b)
after=$(run 0 b)
back=$(run 1 a)
echo "sum of 10^6 times 0.1, and how often the cache was hit"
echo "  strict, empty cache:        $strict"
echo "  fast, empty cache:          $fast"
echo "  strict, after the fast one: $after   (expected: as strict)"
echo "  fast, after the strict one: $back   (expected: as fast)"
if [ "${strict% *}" = "${fast% *}" ] || [ "$after" != "${fast% *} 1" ] || [ "$back" != "${strict% *} 1" ]; then
    echo "CHANGED: numba's cache tells kernels with fastmath from those without" >&2
    exit 1
fi
