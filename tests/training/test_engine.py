"""The engine: determinism, schedules, averaging, accumulation, data modes, early stop, divergence."""

import copy
import itertools
import re
import time

import numpy as np
import pytest
import torch
from conftest import changed

from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.network import model
from zetalib.network.memory import Intervention
from zetalib.network.model import SpacingMDN
from zetalib.training import batches, engine, optimizers
from zetalib.training.distributed import Group


def windows(count=60, length=32, seed=0):
    """Windows with something to learn: an anticorrelated sequence of mean one."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count * length + 1)
    spacing = 1 + 0.3 * (x[1:] - 0.8 * x[:-1])
    shaped = torch.from_numpy(spacing.reshape(count, length))
    heights = torch.arange(count, dtype=torch.float64) * 10 + 14
    return Windows(shaped, torch.arange(count) * length + 1, heights)


def small(p, **changes):
    m = changed(p.model, layers=2, heads=2, width=16, lags=4, components=3)
    t = {
        "steps": 40,
        "warmup": 4,
        "eval_every": 10,
        "checkpoint_every": 7,
        "threads": 1,
        "dev_fraction": 0.2,
        "skip_lowest": 0.0,
        "rescale": False,
    }
    return m, p.memory, p.losses, changed(p.train, **{**t, **changes})


def run(p, tmp_path, name="run", **changes):
    log = []
    result = engine.train(windows(), *small(p, **changes), tmp_path / name / "train.pt", log.append)
    return result, log


def same(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_training_learns_and_is_deterministic(tmp_path, defaults):
    one, _ = run(defaults, tmp_path, "one", steps=120)
    two, _ = run(defaults, tmp_path, "two", steps=120)
    assert same(one.model, two.model) and one.curve == two.curve
    assert one.best_nll < one.curve[0].dev_nll - 0.05
    other, _ = run(defaults, tmp_path, "three", steps=120, seed=42)
    assert not same(one.model, other.model)


def test_the_key_covers_all_that_decides_the_weights(defaults):
    m, memory, losses, t = small(defaults)
    key = engine.run_key(windows(), m, memory, losses, t)
    higher = Windows(windows().spacing, windows().n, windows().gamma + 1)
    assert key == engine.run_key(
        windows(), m, memory, losses, changed(t, usd_per_hour=3.0, checkpoint_every=9, data="mmap")
    )
    others = [
        engine.run_key(windows(seed=1), m, memory, losses, t),
        engine.run_key(windows(), changed(m, entropy_reg=0.01), memory, losses, t),
        engine.run_key(windows(), m, changed(memory, slots=3), losses, t),
        engine.run_key(windows(), m, memory, changed(losses, drift=0.1), t),
        engine.run_key(windows(), m, memory, losses, changed(t, batch=9)),
        engine.run_key(windows(), m, memory, losses, t, Group(0, 2)),
        engine.run_key(higher, m, memory, losses, t),
    ]
    assert len({key, *others}) == 8


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, defaults):
    with pytest.raises(
        ZetaError, match=r"the loss is nan at step \d+.*Lower train\.lr.*no weights"
    ):
        run(defaults, tmp_path, lr=1e12, clip=1e12, steps=200)


def test_a_finite_loss_with_a_broken_model_stops_too(tmp_path, defaults, monkeypatch):
    monkeypatch.setattr(engine, "mean_nll", lambda *_: float("nan"))
    with pytest.raises(ZetaError, match="the dev NLL is nan at step 10"):
        run(defaults, tmp_path)


def test_early_stop_keeps_the_best_weights(tmp_path, defaults, monkeypatch):
    values = iter([0.5, 0.3, 0.4, 0.45, 0.2])
    monkeypatch.setattr(engine, "mean_nll", lambda *_: next(values))
    result, log = run(defaults, tmp_path, steps=50, patience=2)
    assert (result.steps, result.best_step, result.best_nll) == (40, 20, 0.3)
    assert any("early stop" in line for line in log)
    monkeypatch.setattr(engine, "mean_nll", lambda *_: 0.0)
    upto, _ = run(defaults, tmp_path, "short", steps=50, eval_every=20, patience=1)
    assert same(result.model, upto.model)


def test_dev_windows_are_the_top_of_those_given_and_not_trained_on(tmp_path, defaults, monkeypatch):
    *_, t = small(defaults)
    fit, dev = batches.split_dev(windows(), t)
    assert len(fit) == 48 and len(dev) == 12 and dev.gamma[0] > fit.gamma[-1]
    plain, _ = run(defaults, tmp_path, "plain")
    poisoned = windows()
    poisoned.spacing[48:] = 7.0
    other = engine.train(poisoned, *small(defaults), tmp_path / "x.pt", lambda _: None)
    assert [p.train_nll for p in plain.curve] == [p.train_nll for p in other.curve]
    with pytest.raises(ZetaError, match="of 1 training windows 0 are skipped and 1 are dev: none"):
        batches.split_dev(windows(1), t)


def test_the_lowest_windows_can_be_left_out(tmp_path, defaults):
    *_, t = small(defaults, skip_lowest=0.5)
    fit, dev = batches.split_dev(windows(), t)
    assert (len(fit), len(dev)) == (18, 12) and fit.gamma[0] == windows().gamma[30]
    plain, _ = run(defaults, tmp_path, "plain", skip_lowest=0.5)
    poisoned = windows()
    poisoned.spacing[:30] = 7.0
    other = engine.train(
        poisoned, *small(defaults, skip_lowest=0.5), tmp_path / "x.pt", lambda _: None
    )
    assert same(plain.model, other.model)


def test_batches_are_a_pure_function_and_visit_every_window_once_an_epoch(defaults):
    p = changed(defaults.train, batch=4, seed=7, shift=False)
    drawn = torch.cat([batches.starts(i, 10, 32, p) for i in range(5)])
    every = [32 * k for k in range(10)]
    assert sorted(drawn[:10].tolist()) == every == sorted(drawn[10:].tolist())
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert batches.starts(3, 10, 32, p).tolist() == drawn[12:16].tolist()
    more = batches.starts(0, 3, 32, changed(p, batch=8))
    assert len(more) == 8, "more than an epoch in a batch"


def test_shifted_windows_are_cut_anew_each_epoch_and_stay_inside(defaults):
    p = changed(defaults.train, batch=9, seed=7, shift=True)
    epochs = [batches.starts(i, 10, 32, p) for i in range(50)]
    offsets = set()
    for starts in epochs:
        assert starts.min() >= 0 and starts.max() + 32 <= 320
        assert len({int(s) % 32 for s in starts}) == 1 and len(set(starts.tolist())) == 9
        offsets.add(int(starts[0]) % 32)
    assert len(offsets) > 20
    assert batches.starts(0, 1, 32, p).tolist() == [0] * 9, "one window cannot be shifted"


def test_a_batch_is_what_its_starts_say(tmp_path, defaults, monkeypatch):
    """Training sees the record's spacings from each start on, nothing of the dev slice."""
    seen = []
    forward = engine.SpacingMDN.forward

    def spy(self, spacing, height, solution, **options):
        if self.training:
            seen.append(spacing.cpu())
        return forward(self, spacing, height, solution, **options)

    monkeypatch.setattr(engine.SpacingMDN, "forward", spy)
    run(defaults, tmp_path, shift=True, steps=5, warmup=1)
    record = windows().spacing[:48].flatten().float()
    *_, t = small(defaults, shift=True, steps=5, warmup=1)
    for step, batch in enumerate(seen):
        starts = batches.starts(step, 48, 32, t)
        expected = torch.stack([record[s : s + 31] for s in starts])
        assert torch.equal(batch, expected)


def rates(p, schedule):
    p = changed(p.train, steps=110, warmup=10, lr=1.0, schedule=schedule)
    return [optimizers.learning_rate(i, p, optimizers.progress(i, p, 0.0)) for i in range(110)]


def test_each_schedule_warms_up_and_goes_its_way(defaults):
    for schedule in ("linear", "cosine", "constant", "wsd"):
        found = rates(defaults, schedule)
        assert found[0] == 0.1 and found[9] == found[10] == 1.0
        assert all(a >= b for a, b in itertools.pairwise(found[9:]))
    assert rates(defaults, "linear")[60] == pytest.approx(0.5)
    assert rates(defaults, "linear")[-1] == pytest.approx(0.01)
    assert rates(defaults, "cosine")[35] == pytest.approx((1 + 0.5**0.5) / 2)
    assert rates(defaults, "constant")[-1] == 1.0
    assert rates(defaults, "wsd")[89] == 1.0
    assert rates(defaults, "wsd")[100] == pytest.approx(0.5)


def test_with_a_budget_the_clock_is_the_schedule(defaults):
    p = changed(defaults.train, max_minutes=2.0, warmup=10, lr=1.0)
    assert optimizers.progress(5, p, 30.0) == 0.25
    assert optimizers.learning_rate(500, p, 0.25) == 0.75
    assert optimizers.learning_rate(4, p, 0.25) == 0.375, "a late warm-up is scaled, not skipped"


def test_a_budget_ends_the_run_with_the_decay_done(tmp_path, defaults):
    result, log = run(defaults, tmp_path, max_minutes=0.03, eval_every=50)
    assert 1.8 <= result.seconds < 10 and result.curve[-1].step == result.steps
    assert result.curve[-1].lr < 0.05 * defaults.train.lr
    assert any("no two such runs are equal" in line for line in log)
    assert any(re.match(r"Step \d+/~\d+ \|", line) for line in log)


def test_what_was_seen_too_often_is_said_less_surely(tmp_path, defaults):
    """Few windows, many times: sigma grows, the dev slice gains, and the file keeps it."""
    changes = {"steps": 400, "skip_lowest": 0.7, "dev_fraction": 0.25, "schedule": "constant"}
    changes["device"] = "cpu"
    bare, _ = run(defaults, tmp_path, "bare", rescale=False, **changes)
    found, log = run(defaults, tmp_path, "rescaled", rescale=True, **changes)
    assert bare.model.spread == 1
    # The best evaluation is kept, so that what is left to gain is small.
    spread = float(found.model.spread)
    _, dev = batches.split_dev(windows(), small(defaults, **changes)[3])
    cpu = torch.device("cpu")

    def mean_nll(r):
        return engine.mean_nll(r.model, dev, model.solver_of(r.model), cpu)

    before, after = mean_nll(bare), mean_nll(found)
    assert spread != 1 and after < before
    assert any(f"sigma x {spread:.4f}" in line for line in log)
    for other in (0.9, 1.1):
        found.model.spread.fill_(other * spread)
        assert mean_nll(found) > after
    model.save(found.model, tmp_path / "model")
    assert model.load(tmp_path / "model").spread == found.model.spread


def test_a_budget_of_the_cores_does_not_count_waiting(tmp_path, defaults):
    began, waits = time.monotonic(), []

    def wait(_):
        waits.append(time.sleep(0.3))

    chosen = small(defaults, max_minutes=0.01, clock="cpu", eval_every=20)
    result = engine.train(windows(), *chosen, tmp_path / "train.pt", print, wait)
    assert 0.6 <= result.seconds < time.monotonic() - began - 0.3 * len(waits) + 0.1


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"optimizer": "muon"}])
def test_accumulation_gives_the_step_of_the_whole_batch(changes, tmp_path, defaults):
    whole, _ = run(defaults, tmp_path, "whole", steps=10, **changes)
    parts, _ = run(defaults, tmp_path, "parts", steps=10, accumulate=4, **changes)
    assert not same(whole.model, parts.model), "sums of another order"
    # Muon orthogonalises in bfloat16: rounding moves its steps more.
    close = 1e-4 if changes == {"optimizer": "muon"} else 1e-5
    for a, b in zip(whole.curve, parts.curve, strict=True):
        assert (a.train_nll, a.dev_nll) == pytest.approx((b.train_nll, b.dev_nll), abs=close)


def test_data_modes_give_the_same_weights(tmp_path, defaults):
    kept, log = run(defaults, tmp_path, "device", data="device")
    mapped, mapped_log = run(defaults, tmp_path, "mmap", data="mmap")
    assert any("data: device" in line for line in log)
    assert any("data: mmap" in line for line in mapped_log)
    assert same(kept.model, mapped.model) and kept.curve == mapped.curve


def test_auto_keeps_windows_on_the_device_where_there_is_room(defaults, monkeypatch):
    pages = {"SC_PAGE_SIZE": 4096, "SC_AVPHYS_PAGES": 4}
    monkeypatch.setattr(batches.os, "sysconf", pages.__getitem__)
    modes = [
        batches.Batches(windows(count), defaults.train, torch.device("cpu"), torch.float32).mode
        for count in (64, 65)  # of 32 float32: half of 16 KiB, and a little more
    ]
    assert modes == ["device", "mmap"]


def test_a_batch_comes_with_its_rounded_heights(defaults):
    drawn = batches.Batches(windows(), defaults.train, torch.device("cpu"), torch.float32)
    spacing, height = drawn(torch.tensor([0, 64, 80]))
    assert torch.equal(spacing[2], windows().spacing.flatten()[80:112].float())
    assert torch.equal(height, windows().heights(torch.tensor([0, 64, 80])))
    assert height[1] == 34.0 < height[2]


def test_averaged_weights_are_those_of_the_definition(defaults):
    m, memory, _, _ = small(defaults)
    model = SpacingMDN(m, memory, 31)
    average, expected = copy.deepcopy(model), copy.deepcopy(model).state_dict()
    for step in range(1, 30):
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
        optimizers.move_average(average, model, step, 0.5)
        decay = min(0.5, step / (step + 9))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in average.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6)


def test_the_average_is_what_is_evaluated_and_returned(tmp_path, defaults):
    last, _ = run(defaults, tmp_path, "last", schedule="constant", device="cpu")
    mean, _ = run(defaults, tmp_path, "mean", schedule="constant", ema=0.9, device="cpu")
    assert not same(last.model, mean.model)
    assert [p.train_nll for p in last.curve] == [p.train_nll for p in mean.curve]
    _, dev = batches.split_dev(windows(), small(defaults)[-1])
    solve = model.solver_of(mean.model)
    assert engine.mean_nll(mean.model, dev, solve, torch.device("cpu")) == mean.best_nll


MEMORIES = [
    {"kind": "prefix", "norm": 0.5, "dropout": 0.3, "link": "film"},
    {"kind": "postfix", "positions": 4, "ids": "permute_per_batch"},
]


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_memory_is_projected_parted_and_knows_its_centroid(memory, tmp_path, defaults):
    p = defaults.model_copy(update={"memory": changed(defaults.memory, **memory)})
    whole, _ = run(p, tmp_path, "whole", steps=20)
    parts, _ = run(p, tmp_path, "parts", steps=20, accumulate=2)
    for a, b in zip(whole.curve, parts.curve, strict=True):
        assert (a.train_nll, a.dev_nll) == pytest.approx((b.train_nll, b.dev_nll), abs=1e-4)
    slots = whole.model.memory.slots(Intervention()).detach()
    largest = float(slots.norm(dim=-1).max())
    assert largest <= 0.5 + 1e-6 if "norm" in memory else largest > 0.5
    assert whole.model.memory.centroid.abs().sum() > 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_parameter_belongs_to_one_group(optimizer, defaults):
    m, memory, _, t = small(defaults, optimizer=optimizer)
    built = SpacingMDN(m, memory, 31)
    names = {id(w): name for name, w in built.named_parameters()}
    made = optimizers.Optimizers(built, t, memory.lr)
    grouped = [names[id(w)] for group in made.groups for w in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    for group in made.groups:
        for weight in group["params"]:
            matrix = names[id(weight)].endswith("weight") and weight.dim() == 2
            assert group["weight_decay"] == (t.weight_decay if matrix else 0.0)


def test_muon_takes_the_matrices_of_the_blocks_alone(tmp_path, defaults):
    m, memory, _, t = small(defaults, optimizer="muon")
    built = SpacingMDN(m, memory, 31)
    muon, adamw = optimizers.Optimizers(built, t, memory.lr)._all
    names = {id(w): name for name, w in built.named_parameters()}
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    matrices = {names[id(w)] for group in muon.param_groups for w in group["params"]}
    assert matrices == {
        n
        for n in names.values()
        if n.startswith("blocks.") and "norm" not in n and n.endswith("weight")
    }
    result, _ = run(defaults, tmp_path, optimizer="muon", steps=120)
    assert result.best_nll < result.curve[0].dev_nll - 0.03


def test_memory_parameters_move_at_their_own_rate(defaults):
    m, memory, _, t = small(defaults)
    built = SpacingMDN(m, memory, 31)
    built.position.is_memory = True  # as the slots of a memory
    made = optimizers.Optimizers(built, t, 0.3)
    for weight in built.parameters():
        weight.grad = torch.ones_like(weight)
    before = {name: weight.detach().clone() for name, weight in built.named_parameters()}
    made.step(1e-3)
    moved = {n: float((before[n] - w.detach()).abs().mean()) for n, w in built.named_parameters()}
    assert moved["position"] == pytest.approx(0.3e-3, rel=1e-3)
    assert moved["norm.weight"] == pytest.approx(1e-3, rel=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, defaults):
    with pytest.raises(ZetaError, match="8 is no multiple of 3 processes x 1 parts"):
        engine.train(windows(), *small(defaults), tmp_path / "x.pt", group=Group(0, 3))


def test_compiled_training_is_eager_training_up_to_rounding(tmp_path, defaults):
    eager, _ = run(defaults, tmp_path, "eager", steps=10)
    compiled, _ = run(defaults, tmp_path, "compiled", steps=10, compile=True)
    assert compiled.best_nll == pytest.approx(eager.best_nll, abs=1e-4)


def test_an_old_gpu_is_not_compiled_for(defaults, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    model, log = torch.nn.Linear(1, 1), []
    p = changed(defaults.train, compile=True)
    assert engine.compiled(model, p, torch.device("cuda"), log.append) is model
    assert "below compute capability 8.0" in log[0]


def test_log_lines_are_those_of_the_reference(tmp_path, defaults):
    _, log = run(defaults, tmp_path, usd_per_hour=2.0, device="cpu")
    text = "\n".join(log)
    assert "device: CPU" in text and "GiB" in text and "batch 8 windows of 32" in text
    assert '"entropy_reg": 0.005' in text and '"seed": 1337' in text
    number = r"-?\d+\.\d+"
    line = rf"Step 10/40 \| val_nll={number} \(best={number}\) \| {number} steps/s \| ETA: \d+[sm] \| elapsed: {number}m"
    assert any(re.fullmatch(line, entry) for entry in log)
    assert log[-1].startswith("done: ") and "steps/s" in log[-1] and "cost $" in log[-1]
    assert "tokens/s" in log[-1] and "peak memory" in log[-1]


def test_curve_and_summary_hold_no_clock(tmp_path, defaults):
    result, _ = run(defaults, tmp_path)
    header = engine.curve_csv(result).splitlines()[0]
    assert header == "step,tokens,train_nll,dev_nll,lr"
    timed = engine.timed_curve_csv(result).splitlines()
    assert timed[0] == header + ",seconds" and len(timed) == 5
    assert 0 < result.curve[0].seconds < result.curve[-1].seconds <= result.seconds
    assert set(engine.summary(result)) == {
        "dev_nll",
        "best_step",
        "steps",
        "tokens",
        "parameters",
        "spread",
    }


def test_bfloat16_trains_close_to_float32(tmp_path, defaults):
    full, _ = run(defaults, tmp_path, "full", steps=60)
    half, _ = run(defaults, tmp_path, "half", steps=60, precision="bfloat16")
    assert half.best_nll == pytest.approx(full.best_nll, abs=0.05)
    assert not same(full.model, half.model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_where_there_is_none_says_so(tmp_path, defaults):
    with pytest.raises(ZetaError, match=r"train\.device: cuda asked for, and torch sees no GPU"):
        run(defaults, tmp_path, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_trains_to_about_the_same_place(tmp_path, defaults):
    cpu, _ = run(defaults, tmp_path, "cpu", device="cpu", steps=120)
    gpu, _ = run(defaults, tmp_path, "gpu", device="cuda", steps=120)
    assert gpu.best_nll == pytest.approx(cpu.best_nll, abs=0.03)


@pytest.fixture(autouse=True)
def leave_torch_as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
