"""No forecast of any variant moves when spacings after it do: to the bit, for all of them.

The published Q3 and Flash models failed this (docs/reference.md, 2.1): their outputs at t < 40
moved by 0.7 when inputs at t >= 40 changed. That mask is kept as a control, and fails here.
"""

import itertools
from contextlib import nullcontext

import pytest
import torch
from conftest import changed

from zetalib.network import memory, model
from zetalib.network.model import Trace

LENGTH, SLOTS = 24, 3
HEIGHTS = torch.tensor([14.1, 9.99e5, 8.17e7], dtype=torch.float64)

POSITIONS = [
    {"positions": "learned"},
    {"positions": "index"},
    {"positions": "arithmetic"},
    {"positions": "arithmetic", "frequencies": "learnable"},
    {"positions": "arithmetic", "frequencies": "random"},
]
MEMORIES = [{"kind": "none"}] + [
    {"kind": kind, "ids": ids, "content": content, "link": link, "dropout": 0.3}
    for kind, ids, content, link in itertools.product(
        ["prefix", "postfix"],
        ["fixed", "off", "permute_per_batch"],
        ["normal", "zeroed"],
        ["none", "film", "gate", "readout"],
    )
    if (ids, content) != ("off", "zeroed")
]
INPUTS = [{"target": t, "lags": n} for t in ("residual", "spacing") for n in (1, 5, LENGTH)]


def network(p, seed=0, *, of_model, of_memory):
    torch.manual_seed(seed)
    small = {"layers": 2, "heads": 2, "width": 16, "primes": 5, "components": 2}
    built = model.SpacingMDN(
        changed(p.model, **{**small, **of_model}),
        changed(p.memory, **{"slots": SLOTS, **of_memory}),
        LENGTH,
    )
    for weight in built.parameters():  # far from the initial, nearly constant forecast
        torch.nn.init.normal_(weight, std=0.3)
    return built


def spacings(seed=0):
    return torch.rand((3, LENGTH), generator=torch.Generator().manual_seed(seed)) * 2


@torch.no_grad()
def forecast(built, spacing, *, training=False, precision="float32", trace=None, drawn=5):
    """As in training (slots drawn by the same generator) or in evaluation."""
    built.train(training)
    draw = None
    if training:
        draw = memory.training_draw(built.memory_config, torch.Generator().manual_seed(drawn))
    half = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with half:
        return built(spacing, HEIGHTS, trace=trace, intervene=draw)


def moved(before, after, t):
    """Largest change of forecasts made before spacing t was known; None: identical to the bit."""
    old, new = (torch.stack(f)[:, :, :t] for f in (before, after))
    return None if torch.equal(old, new) else float((old - new).abs().max())


def alterations(original, t):
    for change in (spacings(seed=9)[:, t:], 1e6, -1e6):
        altered = original.clone()
        altered[:, t:] = torch.as_tensor(change)
        yield altered


def assert_causal(built, times, **how):
    original = spacings()
    before = forecast(built, original, **how)
    assert torch.stack(before).isfinite().all()
    for t in times:
        for altered in alterations(original, t):
            after = forecast(built, altered, **how)
            # Entry i forecasts spacing i + 1 from spacings 0 ... i: those before t stay.
            assert moved(before, after, t) is None, f"moved before {t}: {moved(before, after, t)}"
            changed_after = (torch.stack(before) != torch.stack(after))[:, :, t]
            assert changed_after.any(), f"spacing {t} does not reach the forecast that follows it"


@pytest.mark.parametrize("of_memory", MEMORIES, ids=lambda m: "-".join(map(str, m.values())))
@pytest.mark.parametrize("of_model", POSITIONS, ids=lambda m: "-".join(m.values()))
def test_no_variant_sees_the_future(of_model, of_memory, defaults):
    """Every layout of positions and memory, in evaluation and in training, in both precisions."""
    built = network(defaults, of_model=of_model, of_memory=of_memory)
    for training, precision in itertools.product([False, True], ["float32", "bfloat16"]):
        assert_causal(built, [1, 10, LENGTH - 1], training=training, precision=precision)


@pytest.mark.parametrize("of_input", INPUTS, ids=lambda m: "-".join(map(str, m.values())))
@pytest.mark.parametrize("kind", ["none", "prefix", "postfix"])
@pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
def test_no_input_sees_the_future(positions, kind, of_input, defaults):
    """Every target and number of lags, at every position."""
    of_model = {"positions": positions, **of_input}
    built = network(defaults, of_model=of_model, of_memory={"kind": kind})
    assert_causal(built, range(1, LENGTH))


@pytest.mark.parametrize("kind", ["none", "prefix", "postfix"])
def test_recording_and_rollout_remedies_see_no_future_either(kind, defaults):
    """The slower path that records attention and scales what memory contributes."""
    built = network(defaults, of_model={"positions": "arithmetic"}, of_memory={"kind": kind})
    original = spacings()
    fading = model.Intervention(fade=0.5, gate=torch.rand(3, LENGTH), slots_off=(1,))
    for t, done in itertools.product([1, 10, LENGTH - 1], [None, fading]):
        before = built(original, HEIGHTS, trace=Trace(), intervene=done)
        for altered in alterations(original, t):
            after = built(altered, HEIGHTS, trace=Trace(), intervene=done)
            assert moved(before, after, t) is None


@pytest.mark.parametrize("kind", ["none", "prefix", "postfix"])
@pytest.mark.parametrize("positions", ["learned", "arithmetic"])
def test_a_model_that_starts_from_the_inversion_sees_no_future(positions, kind, defaults):
    of_model = {"positions": positions, "inversion": True, "components": 4, "lags": 3}
    built = network(defaults, of_model=of_model, of_memory={"kind": kind})
    heights = torch.tensor([1.23e4, 9.99e5, 1.01e6], dtype=torch.float64)
    original = spacings().double()
    solve = model.solver_of(built)
    before = built(original, heights, solve(original, heights))
    assert before[1].dtype == torch.float64
    for t in (1, 10, LENGTH - 1):
        for altered in alterations(original, t):
            after = built(altered, heights, solve(altered, heights))
            assert moved(before, after, t) is None
            assert (torch.stack(before) != torch.stack(after))[:, :, t].any()


def test_a_larger_model_sees_no_future(defaults):
    of_model = {"layers": 6, "heads": 8, "width": 128, "primes": 32, "positions": "arithmetic"}
    for kind in ("none", "prefix", "postfix"):
        built = network(defaults, of_model=of_model, of_memory={"kind": kind, "slots": 8})
        assert_causal(built, [1, 12])


@pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
@pytest.mark.parametrize("training", [False, True])
def test_the_leaky_control_sees_the_future(training, positions, defaults):
    """The published mask of Q3 and Flash fails, visibly: the tests above can fail."""
    built = network(
        defaults,
        of_model={"positions": positions},
        of_memory={"kind": "prefix", "mask": "leaky", "dropout": 0.3},
    )
    original = spacings()
    before = forecast(built, original, training=training, drawn=2)
    for altered in alterations(original, 10):
        after = forecast(built, altered, training=training, drawn=2)
        assert moved(before, after, 10) > 1e-3


def test_the_leaky_control_leaks_from_the_second_layer_on(defaults):
    """One layer is not enough: slots must first read the window, then be read."""
    leaky = {"kind": "prefix", "mask": "leaky"}
    built = network(defaults, of_model={"layers": 1}, of_memory=leaky)
    assert_causal(built, [10])
    built = network(defaults, of_model={"layers": 1}, of_memory={**leaky, "link": "readout"})
    original = spacings()
    before = forecast(built, original)
    assert all(moved(before, forecast(built, a), 10) > 1e-3 for a in alterations(original, 10))


def test_windows_of_a_batch_do_not_see_each_other(defaults):
    for of_model, kind in itertools.product(POSITIONS, ["none", "prefix", "postfix"]):
        built = network(defaults, of_model=of_model, of_memory={"kind": kind})
        original = spacings()
        altered = original.clone()
        altered[1] = 2.0
        before, after = forecast(built, original), forecast(built, altered)
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old[[0, 2]], new[[0, 2]]) and not torch.equal(old[1], new[1])
