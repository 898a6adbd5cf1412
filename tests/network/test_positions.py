"""Rotary positions: the right frequencies, exact angles, and what attention makes of them."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.data import window
from zetalib.network import model, positions
from zetalib.network.attention import Attention, Mixing
from zetalib.network.positions import Rotary
from zetalib.theory.primes import first_primes


def arithmetic(p, **changes):
    small = {"positions": "arithmetic", "width": 32, "heads": 2, "primes": 6, "layers": 2}
    return changed(p.model, **{**small, **changes})


def test_log_primes_are_dealt_to_the_heads_and_a_ladder_fills_the_rest(defaults):
    found = positions.arithmetic_frequencies(arithmetic(defaults))
    assert found.shape == (2, 8) and found.dtype == torch.float64
    assert found[0, :3].exp().tolist() == pytest.approx([2, 5, 11])
    assert found[1, :3].exp().tolist() == pytest.approx([3, 7, 13])
    ladder = found[:, 3:].T.flatten().numpy()
    assert ladder[0] == pytest.approx(6.0) and ladder[-1] == pytest.approx(0.02)
    assert np.diff(np.log(ladder)) == pytest.approx(math.log(0.02 / 6) / 9)
    everything = positions.arithmetic_frequencies(arithmetic(defaults, primes=16))
    assert sorted(everything.flatten().exp().round().tolist()) == first_primes(16)


def test_random_frequencies_are_a_control_within_the_range_of_the_primes(defaults):
    config = arithmetic(defaults, frequencies="random")
    torch.manual_seed(1)
    one, again = positions.arithmetic_frequencies(config), positions.arithmetic_frequencies(config)
    torch.manual_seed(1)
    same = positions.arithmetic_frequencies(config)
    fixed = positions.arithmetic_frequencies(arithmetic(defaults))
    assert torch.equal(one, same) and not torch.equal(one, again)
    drawn = one[:, :3]
    assert drawn.min() >= math.log(2) and drawn.max() <= math.log(13)
    assert not torch.isclose(drawn, fixed[:, :3]).any() and torch.equal(one[:, 3:], fixed[:, 3:])


def test_learnable_frequencies_start_at_the_primes_and_move(defaults):
    rotary = Rotary(arithmetic(defaults, frequencies="learnable"))
    start = positions.arithmetic_frequencies(arithmetic(defaults))
    assert torch.equal(rotary.frequencies(), start)
    cos, _ = rotary(torch.full((1, 3), 100.0, dtype=torch.float64))
    cos.sum().backward()
    assert (rotary.shift.grad != 0).all()
    with torch.no_grad():
        rotary.shift += 1
    assert torch.allclose(rotary.frequencies() - start, torch.tensor(positions.RESOLUTION).double())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("frequencies", ["fixed", "learnable"])
def test_angles_are_exact_far_into_a_long_window(frequencies, precision, defaults):
    rotary = Rotary(arithmetic(defaults, frequencies=frequencies))
    offset = torch.linspace(0, 5000, 997, dtype=torch.float64)[None]
    half = torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()
    with half:
        cos, sin = (part[0, :, 0].double() for part in rotary(offset))
    angle = offset[0, :, None, None] * positions.arithmetic_frequencies(arithmetic(defaults))
    pairs = angle.shape[-1]
    for part in (cos[..., :pairs], cos[..., pairs:]):
        assert (part - angle.cos()).abs().max() < 1e-6
    assert (sin[..., pairs:] - angle.sin()).abs().max() < 1e-6
    assert torch.equal(sin[..., :pairs], -sin[..., pairs:])


def test_turning_back_undoes_turning(defaults):
    rotary = Rotary(arithmetic(defaults))
    rotation = rotary(torch.rand(3, 5, dtype=torch.float64) * 500)
    x = torch.randn(3, 5, 3, 2, 16)
    turned = positions.rotate(x, rotation)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert (turned - x).abs().max() > 0.5
    assert torch.allclose(positions.rotate(turned, rotation, back=True), x, atol=1e-5)
    assert positions.rotate(x.bfloat16(), rotation).dtype == torch.float32


def test_running_sum_is_the_cumulative_sum_of_what_came_before():
    x = torch.rand(3, 37, dtype=torch.float64)
    assert torch.allclose(window.running_sum(x), x.cumsum(1), rtol=1e-14)
    x[:, 20:] = torch.nan
    assert window.running_sum(x)[:, :20].isfinite().all()
    for n in (1, 2, 3, 4, 5):
        assert window.running_sum(torch.ones(1, n)).tolist() == [list(range(1, n + 1))]


def test_offsets_are_heights_above_the_first_zero():
    """From gaps in height, unfolded and back; the height's rounding shifts the scale alone."""
    gamma = 1_131_944.47 + np.array([0, 0.31, 0.9, 1.2, 2.0])
    spacing = np.diff(gamma) * np.log(gamma[:-1] / (2 * np.pi)) / (2 * np.pi)
    height = window.rounded_height(torch.tensor(gamma[:1]))
    found = window.height_offsets(torch.from_numpy(spacing)[None], height)
    assert height.item() == 1_130_000
    assert found[0].numpy() == pytest.approx(gamma[1:] - gamma[0], rel=2e-4)


def naive_arithmetic_attention(attention, x, offset, frequencies):
    """Row by row, head by head, pairs as complex numbers: the definition."""
    heads, pairs = frequencies.shape
    t = x.shape[0]
    q, k, v = (x @ attention.qkv.weight.T).reshape(t, 3, heads, 2, pairs).transpose(0, 1)
    out = torch.zeros(t, heads, 2 * pairs)
    for h in range(heads):
        z = [torch.complex(part[:, h, 0], part[:, h, 1]) for part in (q, k, v)]
        z[:2] = [
            part / (part.abs().square().sum(1, keepdim=True) / (2 * pairs)).sqrt() for part in z[:2]
        ]
        for i in range(t):
            phase = torch.exp(1j * (offset[: i + 1, None] - offset[i]) * frequencies[h])
            score = (z[0][i].conj() * z[1][: i + 1] * phase).sum(1).real / math.sqrt(2 * pairs)
            got = (score.softmax(0)[:, None] * z[2][: i + 1] * phase).sum(0)
            out[i, h] = torch.cat([got.real, got.imag])
    return out.reshape(t, -1) @ attention.out.weight.T


def test_arithmetic_attention_is_its_definition(defaults):
    """docs/reference.md, 2.4: q, k and v turned, the output turned back to the query's frame."""
    config = arithmetic(defaults)
    torch.manual_seed(0)
    attention = Attention(32, 2, 0)
    rotary = Rotary(config)
    x, offset = torch.randn(9, 32), torch.rand(9, dtype=torch.float64).cumsum(0) * 40
    mixing = Mixing(rotation=rotary(offset[None]), turn_values=True)
    with torch.no_grad():
        found = attention(x[None], mixing)
        expected = naive_arithmetic_attention(attention, x, offset, rotary.frequencies())
    assert torch.allclose(found[0].double(), expected.double(), atol=1e-5)


@pytest.mark.parametrize("kind", ["index", "arithmetic"])
def test_attention_knows_differences_of_offsets_only(kind, defaults):
    config = arithmetic(defaults, positions=kind)
    torch.manual_seed(0)
    attention, rotary = Attention(32, 2, 0), Rotary(config)
    x, offset = torch.randn(1, 9, 32), torch.rand(1, 9, dtype=torch.float64) * 50

    def mixed(offset):
        mixing = Mixing(rotation=rotary(offset), turn_values=kind == "arithmetic")
        return attention(x, mixing)

    assert torch.allclose(mixed(offset), mixed(offset + 1234.5), atol=1e-5)
    assert not torch.allclose(mixed(offset), mixed(offset * 1.1), atol=1e-3)


def test_only_arithmetic_positions_and_their_kin_are_told_the_height(defaults):
    spacing = torch.rand(2, 20) * 2
    low, high = (torch.full((2,), h, dtype=torch.float64) for h in (1e4, 1e8))
    for kind, told in (("learned", False), ("index", True), ("arithmetic", True)):
        torch.manual_seed(0)
        built = model.SpacingMDN(arithmetic(defaults, positions=kind), defaults.memory, 20)
        torch.nn.init.normal_(built.head.weight)
        same = torch.equal(built(spacing, low)[1], built(spacing, high)[1])
        assert same != told, kind


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primes": 17}, "17 primes do not fit 16 rotary pairs"),
        ({"width": 6, "heads": 2, "primes": 1}, "rotary positions need heads of even width"),
        ({"positions": "index", "frequencies": "random"}, "for positions: arithmetic only"),
    ],
)
def test_positions_that_make_no_sense_are_refused(changes, message, defaults):
    with pytest.raises(ValueError, match=message):
        arithmetic(defaults, **changes)


@pytest.mark.parametrize("back", [False, True])
def test_what_is_compiled_turns_to_the_same_bits(monkeypatch, back):
    x = torch.randn(2, 5, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    rotation = x[:, :, :1].cos(), x[:, :, :1].sin()
    for given in (x, x.bfloat16()):
        eager = positions.rotate(given, rotation, back)
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            assert torch.equal(positions.rotate(given, rotation, back), eager)
