"""Keys that are kept: a context given in parts is the context given at once."""

import itertools

import pytest
import torch
from conftest import changed

from zetalib.inverse.solutions import Solution
from zetalib.network import model
from zetalib.network.attention import Attention, KVCache, Mixing
from zetalib.network.memory import Intervention
from zetalib.network.model import Trace

LONGEST, SLOTS = 24, 3
HEIGHTS = torch.tensor([1.23e4, 1.01e6, 8.17e7], dtype=torch.float64)
MEMORIES = [{"kind": "none"}] + [
    {"kind": kind, "slots": SLOTS, "link": link}
    for kind, link in itertools.product(["prefix", "postfix"], ["none", "film", "gate", "readout"])
]
CHUNKS = [(24,), (1,) * 24, (7, 1, 1, 5, 10), (1, 23), (23, 1), (12, 12)]
POSITIONS = pytest.mark.parametrize("positions", ["learned", "index", "arithmetic"])
MEMORY = pytest.mark.parametrize(
    "of_memory", MEMORIES, ids=lambda m: "-".join(map(str, m.values()))
)


def network(p, of_model, of_memory):
    torch.manual_seed(1)
    small = {"layers": 2, "heads": 2, "width": 16, "primes": 5, "components": 4}
    built = model.SpacingMDN(
        changed(p.model, **{**small, **of_model}), changed(p.memory, **of_memory), LONGEST
    )
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    if built.density is not None:
        with torch.no_grad():
            built.density.head.weight.mul_(0.1)
    return built.eval()


def spacings(seed=0):
    return torch.rand((3, LONGEST), generator=torch.Generator().manual_seed(seed)) * 2


def solution(seed=2):
    generator = torch.Generator().manual_seed(seed)
    return Solution.of(torch.rand((3, LONGEST, 7), generator=generator).double() + 0.1)


def parts(built, x, solved, chunks, *, last=False, room=None):
    """Forecasts after every position, or the last of each part, parts given one after another."""
    cache, start, found = KVCache(room), 0, []
    for length in chunks:
        part = slice(start, start + length)
        start += length
        at = torch.tensor([start - 1]) if last else None
        given = None if solved is None else solved.at((slice(None), part))
        found.append(built(x[:, part], HEIGHTS, given, at=at, cache=cache))
        assert cache.spacings == start and cache.batch == 3
    return [torch.cat(each, 1) for each in zip(*found, strict=True)], cache


def close(one, two, atol=1e-5):
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(one, two, strict=True))


@MEMORY
@POSITIONS
def test_parts_of_any_lengths_are_one_pass(positions, of_memory, defaults):
    for lags, inversion in itertools.product((1, 5), (False, True)):
        of_model = {"positions": positions, "lags": lags, "inversion": inversion}
        built = network(defaults, of_model, of_memory).requires_grad_(False)
        x = spacings().to(built.takes)
        solved = solution() if inversion else None
        whole = built(x, HEIGHTS, solved)
        room = LONGEST + SLOTS
        for chunks in CHUNKS:
            found, cache = parts(built, x, solved, chunks)
            assert close(found, whole), chunks
            ends = torch.tensor(list(itertools.accumulate(chunks))) - 1
            for how in (None, room):
                some, cache = parts(built, x, solved, chunks, last=True, room=how)
                assert close(some, [part[:, ends] for part in whole]), (chunks, how)
            slots = SLOTS if of_memory["kind"] == "prefix" else 0
            assert cache.length == LONGEST + slots


@MEMORY
@POSITIONS
def test_copies_of_a_cache_go_on_apart(positions, of_memory, defaults):
    built = network(
        defaults, {"positions": positions, "lags": 3, "inversion": True}, of_memory
    ).requires_grad_(False)
    x, solved = spacings().double(), solution()
    others = spacings(1).double()[:, :4], spacings(2).double()[:, :4]
    for count, room in itertools.product((3, 1), (None, LONGEST + SLOTS)):
        some = slice(count)
        cache = KVCache(room)
        first = solved.at((some, slice(12)))
        last = torch.tensor([11])
        built(x[some, :12], HEIGHTS[some], first, at=last, cache=cache)
        both = cache.repeat(2)
        assert both.batch == 2 * count and cache.batch == count
        new = torch.stack([other[some] for other in others], 1).flatten(0, 1)
        after = solved.at((some, slice(12, 16)))
        doubled = Solution(*(s.repeat_interleave(2, 0) for s in after))
        at = torch.tensor([15])
        found = built(new, HEIGHTS[some].repeat_interleave(2), doubled, at=at, cache=both)
        for copy, other in enumerate(others):
            whole = torch.cat([x[some, :12], other[some]], 1)
            wanted = built(whole, HEIGHTS[some], solved.at((some, slice(16))), at=at)
            assert close([part[copy::2] for part in found], wanted)
        # What was repeated is as it was.
        again = built(others[0][some], HEIGHTS[some], after, at=at, cache=cache)
        assert close(again, [part[::2] for part in found])


@MEMORY
def test_gradients_pass_through_what_is_kept(of_memory, defaults):
    found = []
    for chunks in ((LONGEST,), (9, 1, 14)):
        built = network(defaults, {"positions": "arithmetic", "lags": 3}, of_memory)
        x = spacings().requires_grad_()
        _, mu, sigma = parts(built, x, None, chunks)[0]
        (mu.square().sum() + sigma.sum()).backward()
        found.append([x.grad, *(w.grad for w in built.parameters() if w.grad is not None)])
    assert len(found[0]) == len(found[1]) and found[0][0].abs().max() > 1e-3
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_what_cannot_be_kept_is_refused(defaults):
    plain = network(defaults, {}, {"kind": "prefix", "slots": SLOTS})
    leaky = network(defaults, {}, {"kind": "prefix", "slots": SLOTS, "mask": "leaky"})
    for built, done in ((leaky, None), (plain, Intervention(fade=0.5))):
        with pytest.raises(ValueError, match="earlier rows cannot be kept"):
            built(spacings(), HEIGHTS, intervene=done, cache=KVCache())


def test_a_cache_takes_no_more_than_the_context(defaults):
    built, cache = network(defaults, {}, {"kind": "none"}), KVCache()
    built(spacings(), HEIGHTS, cache=cache)
    with pytest.raises(ValueError, match="25 spacings given, the model's context is 24"):
        built(spacings()[:, :1], HEIGHTS, cache=cache)


@pytest.mark.parametrize("room", [None, 9])
def test_rows_are_part_of_a_cache_once_it_goes_on(room):
    torch.manual_seed(0)
    attention, x = Attention(8, 2, 0), torch.randn(2, 9, 8)
    with torch.no_grad():
        whole = attention(x, Mixing())
        cache = KVCache(room)
        first = attention(x[:, :4], Mixing(), cache)
        cache.advance(4)
        looked = attention(x[:, 5:6], Mixing(), cache)  # and not kept
        fifth = attention(x[:, 4:5], Mixing(), cache)
        cache.advance(1)
        mask = torch.ones(4, 9, dtype=torch.bool).tril(5)
        rest = attention(x[:, 5:], Mixing(mask=mask), cache)
    assert torch.allclose(torch.cat([first, fifth, rest], 1), whole, atol=1e-6)
    assert not torch.allclose(looked, fifth, atol=1e-3) and cache.length == 5


@pytest.mark.parametrize("of_memory", [MEMORIES[0], MEMORIES[1]], ids=str)
def test_attention_can_be_watched_along_a_cache(of_memory, defaults):
    built = network(defaults, {"lags": 3}, of_memory).requires_grad_(False)
    whole = Trace()
    built(spacings(), HEIGHTS, trace=whole)
    cache, trace = KVCache(), Trace()
    built(spacings()[:, :20], HEIGHTS, cache=cache)
    built(spacings()[:, 20:], HEIGHTS, trace=trace, cache=cache)
    for one, other in zip(trace.attention, whole.attention, strict=True):
        assert torch.allclose(one, other[:, :, -4:], atol=1e-5)
