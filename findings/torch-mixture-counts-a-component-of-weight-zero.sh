#!/usr/bin/env bash
# torch: a component of weight 0 still gives a mixture density, and decides its tail
#
# What surprised: MixtureSameFamily(Categorical(probs), Normal) with weights exactly (1, 0) gives, at the mean of the component
# that has no weight, a density of about 10^-7 of it instead of the first component's.
# Version: torch 2.13.0.
# Why it matters: forecasts of the next spacing are mixtures of eight Gaussians. Whoever scores them so, with weights that have
# underflowed to 0 or were set to it, is told a log score of about 16 nats where the truth is thousands: the one forecast that was
# surely wrong is forgiven, and the mean NLL of a record is made better by it.
# Guess before running: log_prob is right (log 0 = -inf drops out of logsumexp), and its gradient is NaN.
# Seen: log density -14.559 in float32 and -34.660 in float64 where -19996.31 is right: the other component's
# density times eps, since probs are clipped to [eps, 1 - eps] before their logarithm. With logits (0, -inf) it is right. The
# gradient by the weights is 0, not NaN. Guess wrong on both counts.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: torch==2.13.0 numpy==2.4.6
cat > try.py <<'E'
import sys

import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

print("torch", torch.__version__)
ok = True
for dtype in (torch.float32, torch.float64):
    probs = torch.tensor([1.0, 0.0], dtype=dtype, requires_grad=True)
    normal = Normal(torch.tensor([1.0, 3.0], dtype=dtype), torch.tensor([0.01, 0.1], dtype=dtype))
    y = torch.tensor(3.0, dtype=dtype)
    got = MixtureSameFamily(Categorical(probs=probs), normal).log_prob(y)
    (slope,) = torch.autograd.grad(got, probs)
    logits = torch.tensor([0.0, -float("inf")], dtype=dtype)
    by_logits = MixtureSameFamily(Categorical(logits=logits), normal).log_prob(y)
    true = Normal(normal.loc[0], normal.scale[0]).log_prob(y)
    floor = normal.log_prob(y)[1] + torch.log(torch.tensor(torch.finfo(dtype).eps, dtype=dtype))
    print(f"{dtype}: expected {true.item():.3f}, seen {got.item():.3f} (log of eps times the other density: {floor.item():.3f}),")
    print(f"    by logits (0, -inf): {by_logits.item():.3f}; gradient by the weights {slope.tolist()}")
    ok &= abs(got.item() - floor.item()) < 1e-3 and true < -10000
if not ok:
    sys.exit("CHANGED: a component of weight 0 no longer counts eps")
E
venv/bin/python try.py
