#!/usr/bin/env bash
# crepes and MAPIE take a neighbour's order statistic for some levels: (1 - confidence)(n + 1) in floating point
#
# What surprised: split conformal intervals need the ceil((n + 1) level)-th smallest of n scores. At confidence 0.9 crepes takes
# int((1 - 0.9) (n + 1)), and 1 - 0.9 is 0.09999999999999998: with n = 9 the interval is the whole line, though nine scores
# suffice; with n = 99 it is the 91st score instead of the 90th.
# Version: crepes 0.9.1, MAPIE 1.6.0.
# Why it matters: whoever calibrates a forecast's interval on n = 9, 99, 999 scores, the numbers people take so that the rank is
# whole, is given another interval than the theorem's; two libraries differ by a rank on the same scores.
# Guess before running: crepes wrong at 0.9 for every n with n + 1 a multiple of 10; MAPIE right at 0.9, wrong at some other level
# such as 0.55 with n = 99; both by one rank, always to the wide side.
# Seen: of 5000 pairs (50 levels, 100 sizes) crepes is one rank too high at 410, MAPIE at 98, never too low; at level 0.90
# both at n = 9 only: the whole line for crepes, "too few" for MAPIE, where nine scores suffice. Guess right on MAPIE's other
# levels (0.55 with n = 99), wrong on crepes at 0.9: not every n.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: crepes==0.9.1 MAPIE==1.6.0 numpy==2.4.6 scikit-learn==1.9.1
cat > try.py <<'E'
import collections
import importlib.metadata
import math
import sys
import warnings
from fractions import Fraction

import numpy as np
from crepes import ConformalRegressor
from mapie.regression import SplitConformalRegressor
from sklearn.dummy import DummyRegressor

warnings.simplefilter("ignore")
print(*(f"{p} {importlib.metadata.version(p)}" for p in ("crepes", "MAPIE", "scikit-learn", "numpy")))


def by_crepes(n, level):
    """Rank of the score that is half the interval's width; n + 1 for the whole line."""
    model = ConformalRegressor()
    model.fit(residuals=np.arange(1.0, n + 1))  # the k-th smallest score is k
    low, high = model.predict_int(np.zeros(1), confidence=float(level))[0]
    return n + 1 if math.isinf(high) else round(float(high))


def by_mapie(n, level):
    model = SplitConformalRegressor(
        DummyRegressor(strategy="constant", constant=0.0).fit(np.zeros((2, 1)), np.zeros(2)),
        confidence_level=float(level), prefit=True,
    )
    model.conformalize(np.zeros((n, 1)), np.arange(1.0, n + 1))
    try:
        _, interval = model.predict_interval(np.zeros((1, 1)))
    except ValueError:  # too few scores, it says
        return n + 1
    return round(float(interval[0, 1, 0]))


levels = [f"0.{k:02d}" for k in range(50, 100)]
sizes = [n for n in range(1, 1000) if (n + 1) % 10 == 0]
wrong = {}
for name, rank in (("crepes", by_crepes), ("MAPIE", by_mapie)):
    shift = collections.Counter()
    at = collections.Counter()
    first = {}
    for level in levels:
        for n in sizes:
            right = min(math.ceil((n + 1) * Fraction(level)), n + 1)
            got = rank(n, level)
            if got != right:
                shift[got - right] += 1
                at[level] += 1
                first.setdefault(level, (n, right, got))
    wrong[name] = at
    print(f"{name}: of {len(levels) * len(sizes)} (level, n), rank differs from ceil((n + 1) level): {sum(shift.values())} {dict(shift)}")
    print("   first (n, rank by fractions, rank taken) at a level:", {k: first[k] for k in list(first)[:6]}, "at 0.90:", first.get("0.90"))
if not (wrong["crepes"]["0.90"] and sum(wrong["MAPIE"].values())):
    sys.exit("CHANGED: crepes is right at 0.90, or MAPIE everywhere")
E
venv/bin/python try.py
