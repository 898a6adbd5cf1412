"""The sine process given its past: against ball arithmetic, Gaudin, reversal and random matrices."""

import flint
import numpy as np
import pytest
from scipy import stats

from zetalib.baselines import sine_process
from zetalib.errors import ZetaError
from zetalib.theory import unitary_ensemble

FINE = np.linspace(0, 5, 401)
GAPS = np.diff(unitary_ensemble.points(1 << 16, np.random.default_rng(8)))


def histories(k, apart):
    """Gaps of a random matrix, `apart` from one target to the next: (m, k), (m,)."""
    windows = np.lib.stride_tricks.sliding_window_view(GAPS, k + 1)[::apart]
    return windows[:, :-1], windows[:, -1]


def nll(gaps, y):
    return -sine_process.density(gaps, FINE).logpdf(y)


def janossy(points, nodes):
    """det(1 - K) det(R) on the interval of the points, with R = K + K (1 - K)^-1 K, in balls."""
    x = [flint.arb(p) for p in points]
    half = (x[-1] - x[0]) / 2
    rule = [flint.arb.legendre_p_root(nodes, i, weight=True) for i in range(nodes)]
    t = [x[0] + half * (1 + node) for node, _ in rule]
    root = [(half * weight).sqrt() for _, weight in rule]

    def kernel(a, b):
        return flint.arb_mat([[(p - q).sinc_pi() for q in b] for p in a])

    scale = flint.arb_mat([[r if i == j else 0 for j in range(nodes)] for i, r in enumerate(root)])
    one = flint.arb_mat([[int(i == j) for j in range(nodes)] for i in range(nodes)])
    empty = one - scale * kernel(t, t) * scale
    edge = scale * kernel(t, x)
    return empty.det() * (kernel(x, x) + edge.transpose() * empty.solve(edge)).det()


@pytest.mark.parametrize(
    ("gaps", "nodes"),
    [
        ([0.7], 30),
        ([1.3, 0.4, 2.2], 35),
        ([0.9, 1e-4, 1.1, 0.8], 35),
        ([1.2, 0.5, 1.4, 0.9, 1.0, 0.3, 1.9, 0.8], 45),
        (GAPS[:20].tolist(), 70),
    ],
    ids=["1", "3", "close pair", "8", "20"],
)
def test_masses_are_ratios_of_janossy_densities(gaps, nodes):
    node, weight = np.polynomial.legendre.leggauss(5)
    edges = np.array([0.0, 0.3, 0.5, 0.9, 1.1, 1.9, 2.1, 3.0, 5.0])
    grid = np.union1d(edges, np.arange(0, 5.01, 0.05))
    mass = sine_process.density(np.array([gaps]), grid).mass[0]
    history = [0.0, *np.cumsum(gaps).tolist()]
    with flint.ctx.workprec(800):
        known = janossy(history, nodes)
        for low, high in ((0.3, 0.5), (0.9, 1.1), (1.9, 2.1)):
            s = low + (high - low) / 2 * (node + 1)
            joint = [float(janossy([*history, history[-1] + x], nodes) / known) for x in s]
            inside = (grid[:-1] > low - 1e-9) & (grid[1:] < high + 1e-9)
            exact = (high - low) / 2 * weight @ joint
            assert mass[inside].sum() == pytest.approx(exact, rel=1e-6, abs=1e-9)


def test_a_gap_after_nothing_known_is_gaudins():
    law = sine_process.density(np.empty((1, 0)))
    at = np.array([20, 40, 60, 100])
    assert law.mass[0].cumsum()[at - 1] == pytest.approx(
        unitary_ensemble.spacing_distribution(law.edges[at]), abs=1e-8
    )
    centre, width = 0.5 * (law.edges[1:] + law.edges[:-1]), law.edges[1]
    # Sheppard: squares of the centres are width^2 / 12 too large on average.
    assert law.mass[0] @ (centre - 1) ** 2 - width**2 / 12 == pytest.approx(0.1799939, abs=2e-7)


def test_one_gap_known_and_integrated_out():
    node, weight = np.polynomial.legendre.leggauss(60)
    first, weight = 2.5 * (node + 1), 2.5 * weight
    cells = np.sort(np.concatenate([np.linspace(0, 5, 101), first - 1e-4, first + 1e-4]))
    prior = sine_process.density(np.empty((60, 0)), cells).pdf(first)
    given, law = (
        sine_process.density(first[:, None], FINE),
        sine_process.density(np.empty((1, 0)), FINE),
    )
    assert (weight * prior) @ given.mass == pytest.approx(law.mass[0], abs=1e-7)
    one, two = unitary_ensemble.spacing_variances(2)[1:]
    covariance = (weight * prior) @ ((first - 1) * (given.mean() - 1))
    assert covariance == pytest.approx(two / 2 - one, abs=1e-6)


def test_runs_are_as_likely_backwards():
    runs = np.lib.stride_tricks.sliding_window_view(GAPS, 7)[::700]

    def chain(gaps):
        """Log density of a run, each gap given all before it."""
        return -sum(nll(gaps[:, :k], gaps[:, k]) for k in range(7))

    forward, backward = chain(runs), chain(runs[:, ::-1])
    # Densities are constant in cells: off by their slope times half a cell.
    assert forward == pytest.approx(backward, abs=0.1)
    assert np.median(np.abs(forward - backward)) < 0.02


def test_honest_on_random_matrices_and_better_with_more_gaps():
    known, y = histories(8, 16)
    before = np.full(len(y), np.inf)
    for k in (0, 1, 2, 4, 8):
        forecast = sine_process.density(known[:, 8 - k :])
        assert stats.kstest(forecast.cdf(y), "uniform").pvalue > 0.01
        log = forecast.logpdf(y)
        # What the forecasts themselves expect, to four standard errors.
        expected = (forecast.mass * np.log(forecast.mass / forecast.edges[1])).sum(1)
        excess = log - expected
        assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(len(y))
        assert -log.mean() < before.mean() - 0.005
        before = -log
    # The same gaps in the wrong order give forecasts that do not fit.
    wrong = sine_process.density(known[:, ::-1])
    assert stats.kstest(wrong.cdf(y), "uniform").pvalue < 1e-4
    assert -wrong.logpdf(y).mean() > before.mean() + 0.02


def test_better_than_least_squares():
    first, last = GAPS[: len(GAPS) // 2], np.arange(len(GAPS) // 2, len(GAPS), 8)
    best = np.inf
    for p in (1, 4, 16, 32):
        past = np.lib.stride_tricks.sliding_window_view(first, p + 1)
        design = np.column_stack([np.ones(len(past)), past[:, :-1]])
        fit, square = np.linalg.lstsq(design, past[:, -1])[:2]
        variance = square[0] / len(past)
        known = GAPS[last[:, None] + np.arange(-p, 0)]
        error = GAPS[last] - fit[0] - known @ fit[1:]
        best = min(best, (0.5 * np.log(2 * np.pi * variance) + error**2 / (2 * variance)).mean())
    assert nll(GAPS[last[:, None] + np.arange(-8, 0)], GAPS[last]).mean() < best - 0.005


def test_the_grid_and_the_batch_do_not_matter(monkeypatch):
    gaps, _ = histories(5, 3000)
    fine = sine_process.density(gaps, FINE)
    for cells, tolerance in ((200, 1e-7), (100, 1e-6), (20, 1e-6), (5, 1e-6)):
        coarse = sine_process.density(gaps, np.linspace(0, 5, cells + 1))
        summed = fine.mass.reshape(len(gaps), cells, -1).sum(2)
        assert coarse.mass == pytest.approx(summed, abs=tolerance)
    monkeypatch.setattr(sine_process, "BATCH", 1)
    assert sine_process.density(gaps, FINE).mass == pytest.approx(fine.mass, abs=1e-11)
    assert len(sine_process.density(gaps[:0])) == 0


def test_long_and_unlikely_histories_give_densities():
    gaps, _ = histories(100, 3000)
    assert np.isfinite(sine_process.density(gaps).mean()).all()
    forecast = sine_process.density(np.array([[0.2, 0.2, 0.2], [1.0, 1.0, 1.0], [2.5, 2.5, 2.5]]))
    assert (forecast.mass > 0).all()
    crowd, even, void = forecast.mean()
    assert crowd > 1.5 > 1.1 > even > 0.9 > 0.7 > void


@pytest.mark.parametrize("gaps", [[0.01] * 3, [0.05] * 8, [3.0] * 8, [1.0, 1e-6], [1.0, 1e-17]])
def test_refuses_what_float64_cannot_tell(gaps):
    typical = np.ones((3, len(gaps)))
    typical[1] = gaps
    with pytest.raises(ZetaError, match=r"gaps \[.*float64"):
        sine_process.density(typical)


@pytest.mark.parametrize("gap", [0.0, -1.0, np.nan, np.inf])
def test_refuses_what_are_no_gaps(gap):
    with pytest.raises(ZetaError, match="not positive"):
        sine_process.density(np.array([[1.0, gap]]))


@pytest.mark.parametrize("edges", [np.array([0.1, 1.0]), np.array([0.0, 1.0, 1.0])])
def test_refuses_other_grids(edges):
    with pytest.raises(ZetaError, match="ascend from 0"):
        sine_process.density(np.ones((1, 1)), edges)
