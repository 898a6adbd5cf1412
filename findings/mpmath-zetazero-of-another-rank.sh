#!/usr/bin/env bash
# mpmath 1.3.0, 1.4.1: zetazero(357738766) is a zero, with 15 right digits, of rank 357738764
#
# Its issue 1147 (July 2026) names two blocks that its list of exceptions to Rosser's rule lacks, and the plots that show them.
#
# Guess before running: in both a neighbour's zero comes back, for ranks 325890642 and 357738766.
# Seen: the first rank is right; for 357738766 both versions give 141125096.0126069, the zero of rank 357738764, at once and without
# a word; python-flint's certified zero is 141125096.2806457. Guess half right.
#
# Why it matters: mpmath is what people check a table of zeros against, a few ranks at random; here the table would be blamed. A rank
# off by two is two spacings of the record.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > try.py <<'E'
import sys

import mpmath

print("mpmath", mpmath.__version__)
for rank in map(int, sys.argv[1:]):
    print(rank, mpmath.nstr(mpmath.zetazero(rank).imag, 16), flush=True)
E
cat > judge.py <<'E'
import sys

import flint

flint.ctx.prec = 100
wrong = 0
true = {n: flint.acb.zeta_zero(n).imag for n in (325890641, 325890642, 325890643, 357738764, 357738765, 357738766)}
for line in open("answers"):
    if line.startswith("mpmath"):
        print(line, end="")
        continue
    rank, height = line.split()
    nearest = min(true, key=lambda n: abs(float(true[n]) - float(height)))
    wrong += nearest != int(rank)
    print(f"  zetazero({rank}) = {height}; expected {true[int(rank)].str(16, radius=False)}; that is rank {nearest}")
if wrong != 2:
    sys.exit("CHANGED: zetazero answers otherwise in these blocks")
E
for version in 1.3.0 1.4.1; do
    python3 -m venv "venv$version"
    "venv$version/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: "mpmath==$version" python-flint==0.9.0
    "venv$version/bin/python" try.py 325890642 357738766 >> answers
done
"venv$version/bin/python" judge.py
