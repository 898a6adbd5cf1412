#!/usr/bin/env bash
# scoringrules 0.10.0: weights of a mixture are taken as they are, those of an ensemble are normalised
#
# Guess before running: weights are normalised everywhere, as those of ensembles are.
# Seen: one library, two rules. crps_ensemble gives 0.10625 for weights 1/4, for weights 1 and for none; crps_mixnorm of two
# Gaussians gives 0.35 for weights (1/2, 1/2), -1.13 for (1, 1), -48.3 for (4, 4); logs_mixnorm falls by ln 2 a doubling. No warning.
#
# Why it matters: weights that are counts, or exp(logits), make a CRPS below zero, which no forecast can have, and win every
# comparison; a user who learned the rule from the ensemble functions has no reason to look.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scoringrules==0.10.0 numpy==2.4.6 scipy==1.17.1
cat > "$folder/try.py" <<'P'
import importlib.metadata
import math
import sys

import numpy as np
import scoringrules as sr

print("scoringrules", importlib.metadata.version("scoringrules"))
y, mean, sigma = 0.3, np.array([0.0, 1.0]), np.array([1.0, 2.0])
members = np.array([0.1, 0.2, 0.5, 0.9])
mixture, ensemble, logs = {}, {}, {}
for w in (0.5, 1.0, 4.0):
    mixture[w] = float(sr.crps_mixnorm(y, mean, sigma, np.full(2, w)))
    logs[w] = float(sr.logs_mixnorm(y, mean, sigma, np.full(2, w)))
    ensemble[w] = float(sr.crps_ensemble(y, members, ens_w=np.full(4, w)))
    print(f"weights {w}: mixture CRPS {mixture[w]:.4f}, log score {logs[w]:.4f}; ensemble CRPS {ensemble[w]:.5f}")
same = all(math.isclose(v, ensemble[1.0]) for v in ensemble.values())
if not (same and mixture[0.5] > 0 > mixture[1.0] and math.isclose(logs[0.5] - logs[1.0], math.log(2))):
    sys.exit("CHANGED: both kinds of weights are treated alike")
P
"$folder/venv/bin/python" "$folder/try.py"
