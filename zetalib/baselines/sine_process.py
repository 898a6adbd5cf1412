"""What random-matrix theory knows of the next spacing: the sine process given its last gaps.

Points x_0 < ... < x_k = 0 with none between them, a history of k gaps, leave a determinantal
process to the right of 0. Its kernel is a Schur complement of K(x, y) = sinc(x - y): with the nodes
t of a quadrature rule on [x_0, 0], their weights absorbed, and v = (t, x),

    K~(y, z) = K(y, z) - K(y, v) B^-1 K(v, z),    B = [[K(t, t) - 1, K(t, x)], [K(x, t), K(x, x)]].

(The nodes alone give the resolvent kernel of the empty stretch, the points alone the Palm kernel.)
The next gap exceeds s with probability det(1 - K~) on [0, s]. Determinants as in F. Bornemann, "On
the numerical evaluation of Fredholm determinants", Math. Comp. 79 (2010).

Up to its sign det B is the Janossy density of the history, det(1 - K) det(R) with the resolvent R =
K (1 - K)^-1. That product cancels: 1 - K alone is singular to e^(-pi length). B is not, since the
points hold what the empty stretch lets go; its condition number grows about as k does (median 16 at
k = 8, 230 at k = 128), so that float64 reaches any k. Nothing is known of what lies left of x_0.
No constant is fitted. Unit density, all lengths in mean spacings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zetalib.densities.histogram import Gridded
from zetalib.errors import ZetaError
from zetalib.kernels import cached

Floats = NDArray[np.float64]

EDGES = np.linspace(0, 5, 201)
# Nodes for functions in the band of K: so many a mean spacing (pi / 2 at least), and for the digits
PER_LENGTH, EXTRA = 1.7, 16
BATCH = 1 << 20  # numbers in the largest array
ASYMMETRY = 1e-11  # of K~ by rounding: 1e-15 after gaps of GUE, and K~ is off by 1e-7 at most here
FAINT = 1e-12  # chance left from which on the hazard stays: 1 - K~ is singular to the rule's error


def density(gaps: Floats, edges: Floats = EDGES) -> Gridded:
    """Densities of the next gap of the sine process given the gaps before it.

    Parameters
    ----------
    gaps : float64 array, shape (m, k), in mean spacings
        The last k gaps, oldest first; k may be 0: of the history only its last point is known.
    edges : float64 array, shape (G + 1,)
        Ascending from 0. The density is conditional on a gap below the last edge, beyond which
        lies 1e-11 at 5 and 1e-6 at 4, at most, after eight gaps of GUE.

    Returns
    -------
    Gridded
        Exact masses of the cells: to 1e-8 at the default edges, 1e-6 at coarser ones.

    Raises
    ------
    ZetaError
        If a gap is not positive, the edges do not ascend from 0, or as :func:`conditioned`.
    """
    if not (np.isfinite(gaps) & (gaps > 0)).all():
        raise ZetaError("sine process", "a gap is not positive", "Give distances of neighbours.")
    if edges[0] != 0 or not (np.diff(edges) > 0).all():
        raise ZetaError("sine process", "edges do not ascend from 0", "Begin the grid at 0.")
    grid, _ = _legendre(np.zeros(1), edges[-1:], _count(edges[-1]))
    node, weight = _legendre(edges[:-1], edges[1:], 2 + int(12 * np.diff(edges).max()))
    basis = _lagrange(grid[0], node)
    size = _count(gaps.sum(1).max(initial=0.0)) + gaps.shape[1] + grid.size
    mass = np.empty((len(gaps), len(node)))
    step = max(BATCH // size**2, 1)
    for i in range(0, len(gaps), step):
        _masses(conditioned(gaps[i : i + step], grid[0]), basis, weight, mass[i : i + step])
    return Gridded(edges, mass / mass.sum(1, keepdims=True))


def conditioned(gaps: Floats, at: Floats) -> Floats:
    """The kernel K~ to the right of each history.

    Parameters
    ----------
    gaps : float64 array, shape (m, k), oldest first
    at : float64 array, shape (n,)
        Distances from the last point of the history.

    Returns
    -------
    float64 array, shape (m, n, n)

    Raises
    ------
    ZetaError
        If float64 does not reach: gaps of 0.01 three times in a row, or of 3 eight times.
    """
    m, k = gaps.shape
    point = np.zeros((m, k + 1))
    point[:, :k] = -gaps[:, ::-1].cumsum(1)[:, ::-1]
    count = _count(-point.min(initial=0.0)) if k else 0
    node, weight = _legendre(point[:, 0], np.zeros(m), count)
    place = np.concatenate([node, point], axis=1)
    scale = np.concatenate([np.sqrt(weight), np.ones((m, k + 1))], axis=1)
    inner = np.sinc(place[:, :, None] - place[:, None]) * scale[:, :, None] * scale[:, None]
    inner[:, np.arange(count), np.arange(count)] -= 1
    outer = np.sinc(place[:, :, None] - at) * scale[:, :, None]
    try:
        taken = outer.swapaxes(1, 2) @ np.linalg.solve(inner, outer)
    except np.linalg.LinAlgError:
        taken = np.full((m, len(at), len(at)), np.nan)
    error = np.abs(taken - taken.swapaxes(1, 2)).max((1, 2), initial=0.0)
    if not (error < ASYMMETRY).all():
        where = f"sine process: gaps {gaps[np.argmax(~(error < ASYMMETRY))].round(6).tolist()}"
        raise ZetaError(where, "too close or too far apart for float64", "Condition on fewer gaps.")
    return np.asarray(np.sinc(at[:, None] - at) - taken)


def _count(length: float) -> int:
    return EXTRA + int(PER_LENGTH * length)


def _legendre(low: Floats, high: Floats, count: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on intervals, both of shape (intervals, count)."""
    node, weight = np.polynomial.legendre.leggauss(count) if count else np.empty((2, 0))
    half = (high - low)[:, None] / 2
    return low[:, None] + half * (node + 1), half * weight


def _lagrange(node: Floats, at: Floats) -> Floats:
    """The polynomials that are 1 at one node and 0 at the others, at any `at`: (..., nodes)."""
    one = np.eye(len(node), dtype=bool)
    apart = np.where(one, 1.0, node[:, None] - node)
    return np.asarray((np.where(one, 1.0, (at[..., None] - node)[..., None, :]) / apart).prod(-1))


@cached(nogil=True, fastmath=True, error_model="numpy")
def _masses(kernel: Floats, basis: Floats, weight: Floats, mass: Floats) -> None:
    """Chances that the first point lies in each cell, by emptying the nodes one after the other.

    These are the pivots of 1 - K~ on a composite Gauss rule: the determinants of all [0, edge].

    Parameters
    ----------
    kernel : shape (m, n, n)
        K~ at the interpolation nodes; worked in.
    basis : shape (cells, q, n)
        Interpolates from there to the nodes of the cells, whose weights are (cells, q).
    mass : shape (m, cells), the result
    """
    cells, nodes, n = basis.shape
    row = np.empty(n)
    for i in range(len(kernel)):
        a = kernel[i]
        empty, hazard = 1.0, 0.0
        for c in range(cells):
            width = weight[c].sum()
            if empty > FAINT:
                log = 0.0
                for q in range(nodes):
                    at = basis[c, q]
                    chance = 0.0
                    for j in range(n):
                        total = 0.0
                        for k in range(n):
                            total += a[j, k] * at[k]
                        row[j] = total
                        chance += at[j] * total
                    chance *= weight[c, q]
                    log += np.log1p(-chance)
                    gain = weight[c, q] / (1 - chance)
                    for j in range(n):
                        for k in range(n):
                            a[j, k] += gain * row[j] * row[k]
                hazard = -log / width
            mass[i, c] = -empty * np.expm1(-hazard * width)
            empty *= np.exp(-hazard * width)
