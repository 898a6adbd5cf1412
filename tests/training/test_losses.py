"""The losses against values worked out by hand, and that each of them pulls where it should."""

import math

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.network import model
from zetalib.training import losses
from zetalib.training.losses import weight

LENGTH, SLOTS = 24, 8
HEIGHTS = torch.full((6,), 1.13e6, dtype=torch.float64)


def network(p, *, of_model=None, **of_memory):
    torch.manual_seed(0)
    small = {"layers": 2, "heads": 2, "width": 16, "lags": 3, "primes": 5, "components": 3}
    built = model.SpacingMDN(
        changed(p.model, **{**small, **(of_model or {})}),
        changed(p.memory, **{"slots": SLOTS, "positions": 5, **of_memory}),
        LENGTH - 1,
    )
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def spacings(seed=0, length=LENGTH):
    return torch.rand((6, length), generator=torch.Generator().manual_seed(seed)) * 2


def total(built, p, step=0, seed=0, **weights):
    generator = torch.Generator().manual_seed(seed)
    chosen = changed(p.losses, **{"drift_horizon": 4, **weights})
    return losses.total(built, spacings(), HEIGHTS, model.solver_of(built), step, chosen, generator)


def test_a_ramp_is_linear_between_its_knots_and_constant_outside():
    assert weight(0.3, 0) == weight(0.3, 10_000) == 0.3
    aux = [[0, 0.0], [500, 1e-3], [3000, 1e-2]]
    found = [weight(aux, step) for step in (0, 250, 500, 1750, 3000, 9999)]
    assert found == pytest.approx([0, 5e-4, 1e-3, 5.5e-3, 1e-2, 1e-2])
    stepped = [[1000, 0.0], [1000, 0.01]]
    assert [weight(stepped, step) for step in (0, 999, 1000, 1001)] == [0, 0, 0.01, 0.01]
    assert weight([[100, 0.5]], 0) == weight([[100, 0.5]], 200) == 0.5


@pytest.mark.parametrize("kind", ["none", "prefix", "postfix"])
def test_without_weights_the_loss_is_nll_and_entropy(kind, defaults):
    built = network(defaults, kind=kind)
    loss, parts = total(built, defaults)
    assert set(parts) == {"nll", "entropy"} and not parts["nll"].requires_grad
    expected = parts["nll"] - built.config.entropy_reg * parts["entropy"]
    assert torch.equal(loss.detach(), expected)
    if kind != "postfix":
        forecast = built(spacings()[:, :-1], HEIGHTS)
        assert torch.equal(parts["nll"], model.nll(forecast, spacings()[:, 1:]).mean().detach())


def test_postfix_trains_on_drawn_positions_and_always_on_the_last(defaults):
    built = network(defaults, kind="postfix")
    generator = torch.Generator().manual_seed(0)
    at = losses.drawn_positions(LENGTH - 1, 5, generator)
    forecast = built(spacings()[:, :-1], HEIGHTS, at=at)
    expected = model.nll(forecast, spacings()[:, 1:][:, at]).mean()
    assert torch.equal(total(built, defaults)[1]["nll"], expected.detach())
    drawn = [losses.drawn_positions(20, 4, generator) for _ in range(300)]
    assert all(len(set(a.tolist())) == 4 and a[-1] == 19 and (a.diff() > 0).all() for a in drawn)
    assert {int(n) for a in drawn for n in a} == set(range(20))
    assert losses.drawn_positions(6, 99, generator).tolist() == list(range(6))


ALL = {
    "diversity": 1.0,
    "orthogonality": 1.0,
    "attention_entropy": 1.0,
    "mass_cap": 1.0,
    "mass_limit": 0.01,
    "statistics": 1.0,
    "drift": 1.0,
    "roles": 1.0,
}


@pytest.mark.parametrize("kind", ["prefix", "postfix"])
@pytest.mark.parametrize(
    "changes", [{}, {"diagonal": True, "aux_loss": "huber"}, {"invariants": "q3"}]
)
def test_the_loss_is_the_weighted_sum_of_its_parts(kind, changes, defaults):
    built = network(defaults, kind=kind, link="film", dropout=0.2)
    loss, parts = total(built, defaults, **ALL, **changes)
    named = set(ALL) - {"mass_limit"}
    assert named < set(parts) and all(part > 0 for part in parts.values())
    base = parts["nll"] - built.config.entropy_reg * parts["entropy"]
    assert torch.isclose(loss, base + sum(parts[name] for name in named), rtol=1e-5)
    double, same = total(built, defaults, **{**ALL, "roles": 3.0}, **changes)
    assert same == parts and torch.isclose(double - loss, 2 * parts["roles"], rtol=1e-4)
    loss.backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in built.parameters())


@pytest.mark.parametrize("name", ["diversity", "orthogonality", "attention_entropy", "mass_cap"])
@pytest.mark.parametrize("kind", ["prefix", "postfix"])
def test_each_loss_can_be_trained_away(name, kind, defaults):
    built = network(defaults, kind=kind, positions=1)
    adam = torch.optim.Adam(built.parameters(), lr=0.02)
    values = []
    for step in range(60):
        _, parts = total(built, defaults, step, **{name: 1.0, "mass_limit": 0.01})
        values.append(float(parts[name]))
        loss, _ = total(built, defaults, step, **{name: 100.0, "mass_limit": 0.01})
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert min(values[-10:]) < 0.5 * values[0], values


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("kind", ["prefix", "postfix"])
def test_slots_that_see_the_window_can_tell_its_statistics(kind, diagonal, defaults):
    """And a causal prefix cannot: its slots are constants."""
    built = network(defaults, kind=kind, positions=1)
    adam = torch.optim.Adam(built.parameters(), lr=0.02)
    for step in range(300):
        loss, parts = total(built, defaults, step, statistics=10.0, diagonal=diagonal)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert (parts["statistics"] < 0.2) if kind == "postfix" else (parts["statistics"] > 0.95)


def test_slot_losses_by_hand():
    assert losses.diversity(torch.eye(3, 5)) == 0
    assert losses.diversity(torch.tensor([[2.0, 0.0], [1.0, 0.0]])) == (9 + 4 + 4 + 0) / 4
    states = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [5.0, 0.0]]])
    assert losses.orthogonality(states) == 0.5
    assert losses.orthogonality(states[:, :1]) == 0
    assert losses.attention_entropy(torch.full((2, 4), 0.1)) == pytest.approx(0, abs=1e-6)
    one = torch.tensor([[0.3, 0.0, 0.0, 0.0]])
    assert losses.attention_entropy(one) == pytest.approx(math.log(4))


def test_roles_reward_attention_that_follows_the_statistic():
    target = losses.z_scored(torch.randn(50, 8))
    mass = 0.2 + 0.01 * target
    assert losses.roles(mass, target) == pytest.approx(0, abs=1e-4)
    assert losses.roles(0.2 - 0.01 * target, target) == pytest.approx(2, abs=1e-4)
    assert losses.roles(torch.full((50, 9), 0.2), target) == 1


def test_z_scores():
    found = losses.z_scored(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_the_invariants_of_q3_by_hand():
    """docs/reference.md, 1.2, from its words in numpy."""
    x = spacings(length=64).double().numpy()
    found = losses.q3_invariants(torch.from_numpy(x)).numpy()
    for row, values in zip(x, found, strict=True):
        share = np.histogram(row, bins=16, range=(0, 4))[0] / 64
        halves = row[:32], row[32:]
        power = np.abs(np.fft.rfft(np.diff(row))) ** 2 / 63
        walk, line = np.cumsum(row), np.arange(64)
        expected = [
            row.mean() - 1,
            -sum(q * math.log(q) for q in share if q),
            max(abs(np.diff(row))),
            np.quantile(row, 0.01),
            abs(np.diff(row, 2)).mean(),
            abs(halves[0].mean() - halves[1].mean()) + abs(halves[0].std() - halves[1].std()),
            power[24:].mean(),
            np.sqrt(((walk - np.polyval(np.polyfit(line, walk, 1), line)) ** 2).mean()),
        ]
        assert values == pytest.approx(expected, abs=1e-6)
    even = losses.q3_invariants(torch.ones(1, 64))[0]
    assert even[[0, 1, 2, 4, 5, 6]].abs().max() == 0 and even[3] == 1 and even[7] < 1e-4


def test_window_statistics_by_hand():
    x = spacings(length=64).double().numpy()
    found = losses.window_statistics(torch.from_numpy(x)).numpy()
    for row, values in zip(x, found, strict=True):
        z = (row - row.mean()) / row.std()
        acf = [(z[lag:] * z[:-lag]).mean() for lag in (1, 2)]
        ends = [row.min(), row.max()]
        expected = [row.mean(), row.std(), *ends, *acf, (z**3).mean(), (row < 0.5).mean()]
        assert values == pytest.approx(expected, abs=1e-6)


class Stub:
    """A forecaster whose mean is the spacing `period` before, and which remembers what it was given."""

    def __init__(self, period):
        self.period, self.seen = period, []

    def __call__(self, window, height, solution=None, at=None):
        assert solution == ("solved", window.shape[1])
        self.seen.append(window)
        mu = window[:, at - self.period + 1][..., None]
        return torch.zeros_like(mu), mu, torch.full_like(mu, 1e-9)


def solve(window, height):
    """Stands for solutions: of each window as it is."""
    return "solved", window.shape[1]


def test_drift_is_the_accumulated_error_of_a_sliding_rollout():
    periodic = torch.tensor([0.5, 1.0, 1.5]).repeat(8)[None]
    stub = Stub(3)
    assert losses.drift(stub, periodic, HEIGHTS[:1], solve, 5) == 0
    assert [window.shape for window in stub.seen] == [(1, 19)] * 5
    late = losses.drift(Stub(4), periodic, HEIGHTS[:1], solve, 3)
    # 19, 20, 21 are 1.5, 0.5, 1.0 in truth; the rollout repeats what came four before.
    predicted = [periodic[0, 17], periodic[0, 18], periodic[0, 19]]
    truth = periodic[0, 21:]
    expected = np.abs(np.cumsum(np.subtract(predicted, truth))).mean()
    assert late == pytest.approx(expected)


def test_drift_is_taken_every_so_many_steps_on_so_many_windows(defaults, monkeypatch):
    built, taken = network(defaults), []
    monkeypatch.setattr(
        losses, "drift", lambda m, s, h, solve, n: taken.append(s.shape) or s.sum() * 0
    )
    for step in range(7):
        total(built, defaults, step, drift=0.5, drift_every=3, drift_batch=4)
    assert taken == [(4, LENGTH)] * 3


def test_gradients_of_drift_run_through_the_rollout(defaults):
    built = network(defaults)
    losses.drift(built, spacings(), HEIGHTS, model.solver_of(built), 4).backward()
    assert all(w.grad.isfinite().all() for w in built.parameters())
    assert built.embed.weight.grad.abs().sum() > 0


def test_own_inputs_end_in_samples_of_the_model(defaults):
    built = network(defaults)
    inputs = spacings()[:, :-1]

    def own(seed):
        generator = torch.Generator().manual_seed(seed)
        return losses.own_inputs(built, inputs, HEIGHTS, model.solver_of(built), 4, generator)

    assert torch.equal(own(1), own(1)) and not torch.equal(own(1), own(2))
    assert torch.equal(own(1)[:, :-4], inputs[:, :-4]) and not own(1).requires_grad
    assert (own(1)[:, -4:] != inputs[:, -4:]).all()
    share = [
        not torch.equal(total(built, defaults, seed=s, own_rollout=0.5)[1]["nll"], plain)
        for plain in [total(built, defaults)[1]["nll"]]
        for s in range(60)
    ]
    assert 15 < sum(share) < 45


def test_samples_are_of_the_mixture():
    log_pi = torch.tensor([0.2, 0.5, 0.3]).log().expand(20_000, 2, 3)
    mu = torch.tensor([0.0, 1.0, 2.0]).expand(20_000, 2, 3)
    sigma = torch.tensor([0.1, 0.2, 0.01]).expand(20_000, 2, 3)
    drawn = losses.sampled((log_pi, mu, sigma), torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2)
    assert drawn.mean() == pytest.approx(1.1, abs=0.01)
    spread = 0.2 * 0.01 + 0.5 * 0.04 + 0.3 * 1e-4 + (0.2 * 1.21 + 0.5 * 0.01 + 0.3 * 0.81)
    assert drawn.var() == pytest.approx(spread, rel=0.02)
    assert abs(np.corrcoef(drawn.T.numpy())[0, 1]) < 0.03


def test_a_step_is_a_pure_function_of_its_generator(defaults):
    built = network(defaults, kind="postfix", dropout=0.3, ids="permute_per_batch")
    how = {"own_rollout": 0.5, "statistics": 0.1, "drift": 0.1}
    one, again = total(built, defaults, seed=3, **how), total(built, defaults, seed=3, **how)
    other = total(built, defaults, seed=4, **how)
    assert (
        torch.equal(one[0], again[0]) and one[1] == again[1] and not torch.equal(one[0], other[0])
    )


def test_losses_under_bfloat16_are_close(defaults):
    built = network(defaults, of_model={"positions": "arithmetic"}, kind="postfix")
    full, _ = total(built, defaults, **ALL)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = total(built, defaults, **ALL)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(full.item(), rel=0.02)
