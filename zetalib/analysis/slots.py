"""Measures of memory slots and of what they do, from arrays alone (docs/reference.md, 1.4).

M slots; the *effect* of a slot is what changes when it alone is off: in the NLL (a number a slot)
or in the forecast mean (a number a slot and target). No measure knows a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Least eff% of each label; above 30 a slot is dominant (docs/reference.md, 1.4).
LABELS = ((10.0, "strong"), (3.0, "useful"), (1.0, "marginal"))


def label(percent: float) -> str:
    """What a slot with this eff% is called."""
    if percent > 30:
        return "dominant"
    return next((name for least, name in LABELS if percent >= least), "ballast")


def entropy(weights: Floats) -> Floats:
    """Entropy in nats of weights scaled to sum to one along the last axis, (..., M) to (...).

    From 0 (one slot has all) to log M (all equal); weights that are all zero count as equal.
    """
    weights = np.asarray(weights, dtype=np.float64)
    total = weights.sum(-1, keepdims=True)
    share = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / weights.shape[-1])
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1))).sum(-1))


def largest_share(weights: Floats) -> float:
    """Share of the largest weight in all, (M,): from 1/M to 1; all zero counts as equal."""
    total = weights.sum()
    return float(weights.max() / total) if total > 0 else 1 / len(weights)


def cosine(vectors: Floats) -> Floats:
    """Cosine similarity of rows, (M, d) to (M, M); of a zero row with anything 0."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    return np.asarray(unit @ unit.T)


def correlation(rows: Floats) -> Floats:
    """Pearson correlation of rows, (M, d) to (M, M); of a constant row with anything 0."""
    return cosine(rows - rows.mean(1, keepdims=True))


def off_diagonal(matrix: Floats) -> Floats:
    """Entries of (M, M) above the diagonal, shape (M (M - 1) / 2,)."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])


def effective_rank(rows: Floats) -> float:
    """Exponential of the entropy of the singular values: how many directions rows (M, d) fill.

    From 1 to M. Roy, Vetterli, "The effective rank", EUSIPCO 2007.
    """
    return float(np.exp(entropy(np.asarray(np.linalg.svd(rows, compute_uv=False)))))


def growth(dnll: float) -> float:
    """Relative growth of exp(NLL), the inverse of the geometric mean of the forecast density.

    What "the NLL rose by so many per cent" means here: the NLL itself passes through zero.
    """
    return float(np.expm1(dnll))


def interaction(single: Floats, pairs: Sequence[tuple[int, int]], both: Floats) -> float:
    """How far effects of pairs are from the sum of their members': 0 when slots work apart.

    sum |both_ij - single_i - single_j| / sum (|single_i| + |single_j|) over the pairs.

    Parameters
    ----------
    single : shape (M,)
        Change of the NLL with one slot off.
    pairs, both : slots off together, and the change of the NLL, shape (pairs,)
    """
    i, j = np.array(pairs).T
    apart = np.abs(single[i]) + np.abs(single[j])
    if apart.sum() == 0:
        return 0.0
    return float(np.abs(both - single[i] - single[j]).sum() / apart.sum())


def drift_exponent(errors: Floats) -> float:
    """Slope of log Err@h on log h, by least squares; errors are Err@1 ... Err@horizon.

    0.5 for independent errors (a random walk), 1 for a constant bias, 0 for errors that do not
    accumulate.
    """
    h = np.log(np.arange(1, len(errors) + 1))
    return float(np.polyfit(h, np.log(np.maximum(errors, 1e-12)), 1)[0])


def probe(
    features: Floats, targets: Floats, permutations: int, rng: np.random.Generator, folds: int
) -> tuple[Floats, Floats]:
    """What a linear reader finds in the features of windows it was not fitted on.

    Ridge regression on z-scored features, kernel X X^T / d with penalty 1, fitted on all folds
    but one and judged on that one; folds are consecutive, as windows are in the order of height.

    Parameters
    ----------
    features : shape (W, d)
    targets : shape (W, Q)
    permutations : how often the windows of the targets are shuffled for the null

    Returns
    -------
    r2 : shape (Q,)
        1 - sum of squared errors / sum of squares about the mean of the windows fitted on: up to
        1, and below 0 for a reader that is worse than that mean.
    null : shape (permutations, Q)
        The same for shuffled targets.
    """
    spread = features.std(0)
    x = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    kernel = x @ x.T / x.shape[1]
    held = np.array_split(np.arange(len(x)), folds)
    readers = []
    for part in held:
        rest = np.setdiff1d(np.arange(len(x)), part)
        inner = kernel[np.ix_(rest, rest)] + np.eye(len(rest))
        readers.append((part, rest, kernel[np.ix_(part, rest)] @ np.linalg.inv(inner)))

    def r2(y: Floats) -> Floats:
        error = total = np.zeros(y.shape[1])
        for part, rest, reader in readers:
            mean = y[rest].mean(0)
            error = error + ((y[part] - mean - reader @ (y[rest] - mean)) ** 2).sum(0)
            total = total + ((y[part] - mean) ** 2).sum(0)
        return np.asarray(1 - error / np.where(total > 0, total, 1))

    null = [r2(targets[rng.permutation(len(targets))]) for _ in range(permutations)]
    return r2(targets), np.array(null)
