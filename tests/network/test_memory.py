"""Memory slots: each layout is its definition, ablations ablate, the norm is capped."""

import itertools

import pytest
import torch
from conftest import changed

from zetalib.forecasting import forecasts
from zetalib.network import memory, model
from zetalib.network.model import Intervention, Trace

CONTEXT, SLOTS, LAYERS = 20, 4, 2
HEIGHTS = torch.tensor([1e4, 1.13e6, 8.17e7], dtype=torch.float64)
KINDS = ["prefix", "postfix"]
POSITIONS = ["learned", "index", "arithmetic"]


def network(p, *, seed=0, spread=0.3, of_model=None, **of_memory):
    torch.manual_seed(seed)
    small = {"layers": LAYERS, "heads": 2, "width": 16, "lags": 3, "primes": 5, "components": 3}
    built = model.SpacingMDN(
        changed(p.model, **{**small, **(of_model or {})}),
        changed(p.memory, **{"slots": SLOTS, **of_memory}),
        CONTEXT,
    )
    if spread:
        for weight in built.parameters():
            torch.nn.init.normal_(weight, std=spread)
    return built.eval().requires_grad_(False)


def spacings(length=CONTEXT, seed=0):
    return torch.rand((3, length), generator=torch.Generator().manual_seed(seed)) * 2


def close(one, two, atol=1e-5):
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("kind", "positions"), itertools.product(["none", *KINDS], POSITIONS))
def test_one_pass_forecasts_as_a_run_on_each_prefix_does(kind, positions, defaults):
    built = network(defaults, of_model={"positions": positions}, kind=kind)
    whole = built(spacings(), HEIGHTS)
    for t in range(CONTEXT):
        alone = built(spacings()[:, : t + 1], HEIGHTS)
        assert close([part[:, t] for part in whole], [part[:, -1] for part in alone])
    at = torch.tensor([2, 7, CONTEXT - 1])
    some = built(spacings(), HEIGHTS, at=at)
    assert close([part[:, at] for part in whole], some)


def test_postfix_positions_are_taken_in_parts_with_the_same_result(defaults, monkeypatch):
    built = network(defaults, kind="postfix")
    whole = built(spacings(), HEIGHTS)
    monkeypatch.setattr(model, "CHUNK", 3)
    assert close(whole, built(spacings(), HEIGHTS))


def test_a_postfix_forecast_is_made_from_the_slots_alone(defaults):
    """The bottleneck: with the slots' values gone nothing of the data is left."""
    built = network(defaults, kind="postfix")
    silent = Intervention(slots_off=tuple(range(SLOTS)))
    one = built(spacings(seed=1), HEIGHTS, intervene=silent)
    two = built(spacings(seed=2), HEIGHTS, intervene=silent)
    assert close(one, two, atol=0) and not close(built(spacings(seed=1), HEIGHTS), one, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_nothing_and_records_attention(kind, defaults):
    built, trace = network(defaults, kind=kind), Trace()
    assert close(built(spacings(), HEIGHTS), built(spacings(), HEIGHTS, trace=trace))
    rows = CONTEXT + SLOTS if kind == "prefix" else CONTEXT
    assert len(trace.attention) == len(trace.memory_mass) == len(trace.hidden) == LAYERS
    assert trace.attention[0].shape == (3, 2, rows, rows)
    assert torch.equal(trace.attention[1], trace.attention[1].tril())
    for layer in trace.attention + trace.memory_attention:
        assert torch.allclose(layer.sum(-1), torch.ones(()), atol=1e-5)
    assert trace.slots.shape == (SLOTS, 16) and trace.memory.shape == (3, SLOTS, 16)
    assert trace.hidden[0].shape == trace.read.shape == (3, CONTEXT, 16)
    mass = trace.memory_mass[1]
    if kind == "prefix":
        assert torch.equal(mass, trace.attention[1][:, :, SLOTS:, :SLOTS])
    else:
        rows = trace.memory_attention[1]
        assert rows.shape == (3, 2, CONTEXT, SLOTS, CONTEXT + SLOTS)
        assert (rows[:, :, 5, :, 6:CONTEXT] == 0).all() and (rows[:, :, 5, :, :6] > 0).all()
        assert torch.equal(mass, rows[..., CONTEXT:].flatten(2, 3))


@pytest.mark.parametrize(("kind", "positions"), itertools.product(KINDS, POSITIONS))
def test_a_slot_that_is_off_might_as_well_not_be_there(kind, positions, defaults):
    of_model = {"positions": positions}
    built = network(defaults, of_model=of_model, kind=kind, link="readout")
    # A prefix's slots stand in order before the window: without the first, the others stay put.
    fewer = network(defaults, of_model=of_model, kind=kind, link="readout", slots=SLOTS - 1)
    weights = built.state_dict()
    for name in ("memory.content", "memory.ids", "memory.pooling"):
        weights[name] = weights[name][1:]
    weights["statistics.weight"] = weights["statistics.weight"][:, 1:]
    fewer.load_state_dict(weights)
    off = built(spacings(), HEIGHTS, intervene=Intervention(slots_off=(0,)))
    assert close(off, fewer(spacings(), HEIGHTS))
    assert not close(off, built(spacings(), HEIGHTS), 1e-3)
    as_tensor = Intervention(slots_off=torch.tensor([True, False, False, False]))
    assert close(off, built(spacings(), HEIGHTS, intervene=as_tensor), 0)


def test_ids_and_contents_can_be_taken_apart(defaults):
    built = network(defaults, kind="prefix")
    content, ids = built.memory.content, built.memory.ids
    fed = lambda **how: built.memory.slots(Intervention(**how))  # noqa: E731
    assert torch.equal(fed(), content + ids)
    assert torch.equal(fed(only="ids"), ids) and torch.equal(fed(only="content"), content)
    order = (2, 0, 1, 3)
    assert torch.equal(fed(permute=order), content + ids[list(order)])
    assert torch.equal(fed(permute=torch.tensor(order)), fed(permute=order))
    for how in ({"content": "zeroed"}, {"ids": "off"}):
        built = network(defaults, kind="prefix", **how)
        only = built.memory.ids if "content" in how else built.memory.content
        assert torch.equal(built.memory.slots(Intervention()), only)
    assert (built.memory.slots(Intervention(only="ids")) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_is_off_adds_nothing(kind, defaults):
    built = network(defaults, kind=kind)
    off = built(spacings(), HEIGHTS, intervene=Intervention(heads_off=((1, 0),)))
    assert not close(off, built(spacings(), HEIGHTS), 1e-3)
    built.blocks[1].attention.out.weight[:, :8] = 0
    assert close(off, built(spacings(), HEIGHTS))


@pytest.mark.parametrize(("kind", "link"), itertools.product(KINDS, ["film", "gate", "readout"]))
def test_links_start_as_none_and_then_count(kind, link, defaults):
    plain = network(defaults, spread=0, kind=kind)
    linked = network(defaults, spread=0, kind=kind, link=link)
    weights = {k: v for k, v in plain.state_dict().items() if not k.startswith("memory.pooling")}
    linked.load_state_dict(weights, strict=False)
    assert close(plain(spacings(), HEIGHTS), linked(spacings(), HEIGHTS))
    torch.nn.init.normal_(linked.link.out.weight)
    torch.nn.init.normal_(linked.head.weight)
    torch.nn.init.normal_(plain.head.weight).copy_(linked.head.weight)
    assert not close(plain(spacings(), HEIGHTS), linked(spacings(), HEIGHTS), 1e-3)
    faded = linked(spacings(), HEIGHTS, intervene=Intervention(fade=0.0))
    assert close(faded, plain(spacings(), HEIGHTS, intervene=Intervention(fade=0.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_fading_takes_memory_out_step_by_step(kind, defaults):
    built = network(defaults, kind=kind)

    def distance(**how):
        faded = built(spacings(), HEIGHTS, intervene=Intervention(**how))
        return (faded[1] - built(spacings(), HEIGHTS)[1]).abs().mean()

    steps = [distance(fade=f) for f in (1.0, 0.99, 0.9, 0.5)]
    assert steps[0] == 0 and all(a < b for a, b in itertools.pairwise(steps))
    assert distance(gate=torch.ones(3)) < 1e-5
    assert torch.isclose(distance(gate=torch.full((3,), 0.5)), steps[3])
    one = Intervention(gate=torch.tensor([1.0, 0.0, 1.0]))
    found = built(spacings(), HEIGHTS, intervene=one)[1] - built(spacings(), HEIGHTS)[1]
    assert found[[0, 2]].abs().max() < 1e-5 < 1e-3 < found[1].abs().max()


def test_a_gate_may_differ_by_position(defaults):
    for kind in KINDS:
        built, at = network(defaults, kind=kind), torch.tensor([3, 11])
        gate = torch.ones(3, CONTEXT)
        gate[:, 11:] = 0.2
        half = Intervention(gate=gate)
        plain = built(spacings(), HEIGHTS, at=at)[1]
        gated = built(spacings(), HEIGHTS, at=at, intervene=half)[1]
        assert torch.allclose(plain[:, 0], gated[:, 0], atol=1e-5)
        assert (plain[:, 1] - gated[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_trusted_where_states_are_like_those_of_training(kind, defaults):
    built = network(defaults, kind=kind)
    model.learn_centroid(built, spacings(), HEIGHTS, model.solver_of(built))
    usual = model.similarity_gate(built, spacings(), HEIGHTS)
    assert usual.shape == (3,) and (usual >= 0).all() and (usual <= 1).all() and usual.mean() > 0.6
    built.memory.centroid.neg_()
    assert (model.similarity_gate(built, spacings(), HEIGHTS) == 0).all()
    context, height = spacings().double().numpy(), HEIGHTS.numpy()
    shut = forecasts.next_spacing(built, gated=True)(context, height)
    off = forecasts.next_spacing(built, Intervention(fade=0.0))(context, height)
    assert abs(shut.mu - off.mu).max() < 1e-6
    with pytest.raises(ValueError, match="nothing to gate"):
        model.similarity_gate(network(defaults), spacings(), HEIGHTS)


def test_slots_are_projected_to_the_largest_norm(defaults):
    for how in ({}, {"ids": "off"}, {"content": "zeroed"}):
        slots = network(defaults, kind="prefix", spread=1.0, **how).memory
        with torch.no_grad():
            for part in slots.parameters():
                part[0] *= 0.01
        before = slots.slots(Intervention())
        memory.project(slots, 2.0)
        after = slots.slots(Intervention())
        norms = before.norm(dim=1)
        assert norms[0] < 2 < norms[1:].min()
        assert torch.allclose(after.norm(dim=1), norms.clamp(max=2), atol=1e-5)
        assert torch.allclose(after / after.norm(dim=1, keepdim=True), before / norms[:, None])


def test_training_draws_come_from_the_generator_alone(defaults):
    def draws(seed, **how):
        config = changed(defaults.memory, **{"kind": "postfix", "slots": 8, **how})
        generator = torch.Generator().manual_seed(seed)
        return [memory.training_draw(config, generator) for _ in range(500)]

    assert draws(0) == [None] * 500 and draws(0, dropout=0.1, kind="none") == [None] * 500
    one, again = draws(1, dropout=0.1), draws(1, dropout=0.1)
    off = torch.stack([draw.slots_off for draw in one]).float()
    assert torch.equal(off, torch.stack([draw.slots_off for draw in again]).float())
    assert off.mean() == pytest.approx(0.1, abs=0.02) and one[0].permute is None
    orders = torch.stack([draw.permute for draw in draws(1, ids="permute_per_batch")])
    assert torch.equal(orders.sort(1).values, torch.arange(8).expand(500, -1))
    assert len(orders.unique(dim=0)) > 490


def test_memory_parameters_are_flagged_and_no_others(defaults):
    for link in ("none", "film"):
        built = network(defaults, kind="postfix", link=link)
        flagged = {n for n, w in built.named_parameters() if getattr(w, "is_memory", False)}
        assert flagged == {"memory.content", "memory.ids", "memory.pooling"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_with_memory_is_the_same_model(kind, tmp_path, defaults):
    of_model = {"positions": "arithmetic", "frequencies": "random"}
    built = network(defaults, of_model=of_model, kind=kind, link="gate")
    model.learn_centroid(built, spacings(), HEIGHTS, model.solver_of(built))
    model.save(built, tmp_path / "model")
    again = model.load(tmp_path / "model")
    assert close(built(spacings(), HEIGHTS), again(spacings(), HEIGHTS), 0)
    assert torch.equal(built.memory.centroid, again.memory.centroid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "postfix", "mask": "leaky"}, "leaky is of kind: prefix only"),
        ({"link": "film"}, "a link needs a memory"),
        ({"kind": "prefix", "ids": "off", "content": "zeroed"}, "neither IDs nor content"),
    ],
)
def test_memories_that_make_no_sense_are_refused(changes, message, defaults):
    with pytest.raises(ValueError, match=message):
        changed(defaults.memory, **changes)
