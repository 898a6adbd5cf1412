"""The engine: exact resume, determinism, early stop, divergence."""

import itertools
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, changed

from zetalib import train
from zetalib.errors import ZetaError
from zetalib.window import Windows


def windows(count=60, length=32, seed=0):
    """Windows with something to learn: an anticorrelated sequence of mean one."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count * length + 1)
    spacing = 1 + 0.3 * (x[1:] - 0.8 * x[:-1])
    shaped = torch.from_numpy(spacing.reshape(count, length))
    return Windows(shaped, torch.arange(count) * length + 1, torch.arange(count) * 10.0 + 14)


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
    }
    return m, p.memory, p.losses, changed(p.train, **{**t, **changes})


def run(p, tmp_path, name="run", **changes):
    log = []
    result = train.train(windows(), *small(p, **changes), tmp_path / name / "train.pt", log.append)
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


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 6, 7, 8, 15, 39])
def test_a_run_stopped_anywhere_resumes_to_the_same_weights(at, tmp_path, defaults, monkeypatch):
    whole, _ = run(defaults, tmp_path, "whole")
    rate, calls = train.learning_rate, []

    def dies(step, p):
        calls.append(step)
        if len(calls) > at:
            raise Killed
        return rate(step, p)

    monkeypatch.setattr(train, "learning_rate", dies)
    with pytest.raises(Killed):
        run(defaults, tmp_path, "broken")
    monkeypatch.setattr(train, "learning_rate", rate)
    resumed, log = run(defaults, tmp_path, "broken")
    assert same(whole.model, resumed.model) and whole.curve == resumed.curve
    assert (whole.best_nll, whole.best_step) == (resumed.best_nll, resumed.best_step)
    expected = at // 7 * 7
    assert any(f"at step {expected}" in line for line in log if "resuming" in line) == (
        expected > 0
    )


def test_kill_9_in_the_middle_resumes_to_the_same_weights(tmp_path):
    """A real process, really killed, between any two instructions."""
    code = textwrap.dedent("""
        import sys
        sys.path[:0] = ["tests", "."]
        from pathlib import Path
        from conftest import ROOT
        from test_train import small, windows
        from zetalib import model, params, train
        m, memory, losses, t = small(params.load(ROOT / "params.yaml"), steps=400, checkpoint_every=5)
        out = Path(sys.argv[1])
        result = train.train(windows(), m, memory, losses, t, out / "train.pt", lambda line: print(line, flush=True))
        model.save(result.model, out / "model")
    """)

    def start(name):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    whole = start("whole")
    assert "Step 400/400" in whole.communicate()[0] and whole.returncode == 0
    killed = start("killed")
    checkpoint = tmp_path / "killed" / "train.pt"
    while not checkpoint.exists():
        assert killed.poll() is None
        time.sleep(0.002)
    time.sleep(0.15)
    killed.send_signal(signal.SIGKILL)
    said = killed.communicate()[0]
    assert killed.returncode == -signal.SIGKILL and "Step 400/400" not in said
    again = start("killed")
    assert "resuming from" in again.communicate()[0] and again.returncode == 0
    weights = [tmp_path / name / "model" / "weights.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path, defaults, monkeypatch):
    fresh, _ = run(defaults, tmp_path, "fresh", lr=0.004)
    run(defaults, tmp_path, "shared")
    result, log = run(defaults, tmp_path, "shared", lr=0.004)
    assert any("belongs to another run" in line for line in log)
    assert same(result.model, fresh.model)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_checkpoint_is_not_resumed(content, tmp_path, defaults):
    path = tmp_path / "run" / "train.pt"
    path.parent.mkdir()
    path.write_bytes(content)
    result, log = run(defaults, tmp_path)
    assert any("starting afresh" in line for line in log) and result.steps == 40


def test_the_key_covers_all_that_decides_the_weights(defaults):
    m, memory, losses, t = small(defaults)
    key = train.run_key(windows(), m, memory, losses, t)
    assert key == train.run_key(
        windows(), m, memory, losses, changed(t, usd_per_hour=3.0, checkpoint_every=9)
    )
    others = [
        train.run_key(windows(seed=1), m, memory, losses, t),
        train.run_key(windows(), changed(m, entropy_reg=0.01), memory, losses, t),
        train.run_key(windows(), m, changed(memory, slots=3), losses, t),
        train.run_key(windows(), m, memory, changed(losses, drift=0.1), t),
        train.run_key(windows(), m, memory, losses, changed(t, batch=9)),
    ]
    assert len({key, *others}) == 6


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, defaults):
    with pytest.raises(
        ZetaError, match=r"the loss is nan at step \d+.*Lower train\.lr.*no weights"
    ):
        run(defaults, tmp_path, lr=1e12, clip=1e12, steps=200)


def test_a_finite_loss_with_a_broken_model_stops_too(tmp_path, defaults, monkeypatch):
    monkeypatch.setattr(train, "mean_nll", lambda *_: float("nan"))
    with pytest.raises(ZetaError, match="the dev NLL is nan at step 10"):
        run(defaults, tmp_path)


def test_early_stop_keeps_the_best_weights(tmp_path, defaults, monkeypatch):
    values = iter([0.5, 0.3, 0.4, 0.45, 0.2])
    monkeypatch.setattr(train, "mean_nll", lambda *_: next(values))
    result, log = run(defaults, tmp_path, steps=50, patience=2)
    assert (result.steps, result.best_step, result.best_nll) == (40, 20, 0.3)
    assert any("early stop" in line for line in log)
    monkeypatch.setattr(train, "mean_nll", lambda *_: 0.0)
    upto, _ = run(defaults, tmp_path, "short", steps=50, eval_every=20, patience=1)
    assert same(result.model, upto.model)


def test_dev_windows_are_the_top_of_those_given_and_not_trained_on(tmp_path, defaults, monkeypatch):
    *_, t = small(defaults)
    fit, dev = train.split_dev(windows(), t)
    assert len(fit) == 48 and len(dev) == 12 and dev.gamma[0] > fit.gamma[-1]
    plain, _ = run(defaults, tmp_path, "plain")
    poisoned = windows()
    poisoned.spacing[48:] = 7.0
    other = train.train(poisoned, *small(defaults), tmp_path / "x.pt", lambda _: None)
    assert [p.train_nll for p in plain.curve] == [p.train_nll for p in other.curve]
    with pytest.raises(ZetaError, match="of 1 training windows 0 are skipped and 1 are dev: none"):
        train.split_dev(windows(1), t)


def test_the_lowest_windows_can_be_left_out(tmp_path, defaults):
    *_, t = small(defaults, skip_lowest=0.5)
    fit, dev = train.split_dev(windows(), t)
    assert (len(fit), len(dev)) == (18, 12) and fit.gamma[0] == windows().gamma[30]
    plain, _ = run(defaults, tmp_path, "plain", skip_lowest=0.5)
    poisoned = windows()
    poisoned.spacing[:30] = 7.0
    other = train.train(
        poisoned, *small(defaults, skip_lowest=0.5), tmp_path / "x.pt", lambda _: None
    )
    assert same(plain.model, other.model)


def test_batches_are_a_pure_function_and_visit_every_window_once_an_epoch(defaults):
    p = changed(defaults.train, batch=4, seed=7, shift=False)
    drawn = torch.cat([train.batch_starts(i, 10, 32, p) for i in range(5)])
    every = [32 * k for k in range(10)]
    assert sorted(drawn[:10].tolist()) == every == sorted(drawn[10:].tolist())
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert train.batch_starts(3, 10, 32, p).tolist() == drawn[12:16].tolist()
    more = train.batch_starts(0, 3, 32, changed(p, batch=8))
    assert len(more) == 8, "more than an epoch in a batch"


def test_shifted_windows_are_cut_anew_each_epoch_and_stay_inside(defaults):
    p = changed(defaults.train, batch=9, seed=7, shift=True)
    epochs = [train.batch_starts(i, 10, 32, p) for i in range(50)]
    offsets = set()
    for starts in epochs:
        assert starts.min() >= 0 and starts.max() + 32 <= 320
        assert len({int(s) % 32 for s in starts}) == 1 and len(set(starts.tolist())) == 9
        offsets.add(int(starts[0]) % 32)
    assert len(offsets) > 20
    assert train.batch_starts(0, 1, 32, p).tolist() == [0] * 9, "one window cannot be shifted"


def test_a_batch_is_what_its_starts_say(tmp_path, defaults, monkeypatch):
    """Training sees the record's spacings from each start on, nothing of the dev slice."""
    seen = []
    forward = train.SpacingMDN.forward

    def spy(self, spacing, height):
        if self.training:
            seen.append(spacing.clone())
        return forward(self, spacing, height)

    monkeypatch.setattr(train.SpacingMDN, "forward", spy)
    run(defaults, tmp_path, shift=True, steps=5, warmup=1)
    record = windows().spacing[:48].flatten().float()
    *_, t = small(defaults, shift=True, steps=5, warmup=1)
    for step, batch in enumerate(seen):
        starts = train.batch_starts(step, 48, 32, t)
        expected = torch.stack([record[s : s + 31] for s in starts])
        assert torch.equal(batch, expected)


def test_learning_rate_warms_up_and_decays_to_zero(defaults):
    p = changed(defaults.train, steps=100, warmup=10, lr=1.0)
    rates = [train.learning_rate(i, p) for i in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[9:])) and rates[-1] < 0.02


def test_log_lines_are_those_of_the_reference(tmp_path, defaults):
    _, log = run(defaults, tmp_path, usd_per_hour=2.0)
    text = "\n".join(log)
    assert "device: CPU" in text and "GiB" in text and "batch 8 windows of 32" in text
    assert '"entropy_reg": 0.005' in text and '"seed": 1337' in text
    number = r"-?\d+\.\d+"
    line = rf"Step 10/40 \| val_nll={number} \(best={number}\) \| {number} steps/s \| ETA: \d+[sm] \| elapsed: {number}m"
    assert any(re.fullmatch(line, entry) for entry in log)
    assert log[-1].startswith("done: ") and "steps/s" in log[-1] and "cost $" in log[-1]


def test_curve_and_summary_hold_no_clock(tmp_path, defaults):
    result, _ = run(defaults, tmp_path)
    header = train.curve_csv(result).splitlines()[0]
    assert header == "step,tokens,train_nll,dev_nll,lr"
    assert set(train.summary(result)) == {"dev_nll", "best_step", "steps", "tokens", "parameters"}


def test_no_weight_decay_on_norms_biases_and_positions(defaults):
    from zetalib.model import SpacingMDN

    m, memory, _, t = small(defaults)
    built = SpacingMDN(m, memory, 31)
    decayed, others = train.optimizer(built, t).param_groups
    names = {id(w): name for name, w in built.named_parameters()}
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    assert all(
        names[id(w)].endswith("weight") and "norm" not in names[id(w)] for w in decayed["params"]
    )
    assert "position" in {names[id(w)] for w in others["params"]} and others["weight_decay"] == 0


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
