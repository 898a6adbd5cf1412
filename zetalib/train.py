"""The training engine: AdamW, warm-up and decay, early stop, checkpoint and exact resume.

Nothing here depends on the clock except what is printed: the same parameters and data give the
same weights, interrupted or not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from zetalib import model as model_module
from zetalib import params
from zetalib.errors import ZetaError
from zetalib.model import SpacingMDN, nll, weight_entropy
from zetalib.window import Windows, save_tensors

Log = Callable[[str], None]

_DIVERGED = "Lower train.lr or train.clip, or raise model.sigma_floor; no weights were written."


@dataclass
class Point:
    """One evaluation: step, tokens seen, training and dev NLL, learning rate of the step."""

    step: int
    tokens: int
    train_nll: float
    dev_nll: float
    lr: float


@dataclass
class Result:
    """What training leaves: the weights of the best evaluation and the learning curve."""

    model: SpacingMDN
    best_nll: float
    best_step: int
    steps: int
    curve: list[Point] = field(default_factory=list)


def setup(p: params.Train) -> torch.device:
    """Fix threads and determinism; choose the device.

    Raises
    ------
    ZetaError
        If `train.device` is cuda and there is none.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(p.threads)
    torch.use_deterministic_algorithms(True)
    available = torch.cuda.is_available()
    if p.device == "cuda" and not available:
        problem = "cuda asked for, and torch sees no GPU"
        raise ZetaError("params.yaml: train.device", problem, "Set it to auto or cpu.")
    return torch.device("cuda" if available and p.device != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """Name and memory of the device, for the log."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads), {memory:.1f} GiB"


def learning_rate(step: int, p: params.Train) -> float:
    """Rate of the 0-based `step`: linear warm-up, then linear decay that ends at zero."""
    if step < p.warmup:
        return p.lr * (step + 1) / p.warmup
    return p.lr * (p.steps - step) / (p.steps - p.warmup)


def batch_starts(step: int, windows: int, length: int, p: params.Train) -> Tensor:
    """Where the windows of a step start in the contiguous record of `windows` * `length` spacings.

    An epoch visits non-overlapping windows once each in random order; with `p.shift` they are cut
    anew each epoch, at a random offset (which costs one window). A pure function of its arguments:
    that makes resumption exact.
    """
    shift = p.shift and windows > 1
    per_epoch = windows - 1 if shift else windows
    position, missing = step * p.batch, p.batch
    starts = []
    while missing > 0:
        epoch, first = divmod(position, per_epoch)
        generator = torch.Generator().manual_seed(p.seed * 1_000_003 + epoch)
        offset = int(torch.randint(length, (), generator=generator)) if shift else 0
        order = torch.randperm(per_epoch, generator=generator)[first : first + missing]
        starts.append(offset + length * order)
        position, missing = position + len(order), missing - len(order)
    return torch.cat(starts)


def split_dev(windows: Windows, p: params.Train) -> tuple[Windows, Windows]:
    """Windows to fit and dev windows: dev is the top of the training range, never the val tail."""
    dev = max(1, int(len(windows) * p.dev_fraction))
    skipped = int(len(windows) * p.skip_lowest)
    if skipped + dev >= len(windows):
        problem = f"of {len(windows)} training windows {skipped} are skipped and {dev} are dev"
        raise ZetaError("params.yaml: train", problem + ": none is left", "Take more zeros.")
    return windows[skipped : len(windows) - dev], windows[len(windows) - dev :]


def optimizer(model: SpacingMDN, p: params.Train) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices, none on norms, biases and positions."""
    matrices = [w for name, w in model.named_parameters() if w.dim() == 2 and name != "position"]
    chosen = {id(w) for w in matrices}
    others = [w for w in model.parameters() if id(w) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": p.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=p.lr, betas=(0.9, p.beta2))


@torch.no_grad()
def mean_nll(model: SpacingMDN, spacing: Tensor, height: Tensor, batch: int = 64) -> float:
    """Mean NLL over positions 2 ... T of windows, shape (W, T), summed in float64."""
    total = 0.0
    for i in range(0, len(spacing), batch):
        x = spacing[i : i + batch]
        total += float(nll(model(x[:, :-1], height[i : i + batch]), x[:, 1:]).double().sum())
    return total / (len(spacing) * (spacing.shape[1] - 1))


def train(
    windows: Windows,
    m: params.Model,
    memory: params.Memory,
    losses: params.Losses,
    p: params.Train,
    checkpoint: str | Path,
    log: Log = print,
) -> Result:
    """Train a forecaster on `windows` (the training split) and return the best one found.

    "Best" is by NLL on the dev slice, the top `dev_fraction` of the windows given; this is the
    `val_nll` of the log lines. A checkpoint is written every `checkpoint_every` steps; a later
    call with the same parameters, data and code resumes from it and ends with the same weights,
    to the bit, as a run that was never interrupted. The caller removes it when the result is safe
    (:func:`discard`).

    Raises
    ------
    ZetaError
        If the loss is not finite, naming the step.
    """
    device = setup(p)
    checkpoint = Path(checkpoint)
    torch.manual_seed(p.seed)
    length = windows.spacing.shape[1]
    model = SpacingMDN(m, memory, length - 1).to(device)
    adamw = optimizer(model, p)
    fit, dev = split_dev(windows, p)
    # The windows are consecutive, so together they are one record that can be cut anywhere.
    data = fit.spacing.to(device, torch.float32).flatten().unfold(0, length, 1)
    dev_data, dev_heights = dev.spacing.to(device, torch.float32), dev.heights().to(device)
    forward = torch.compile(model) if p.compile else model
    key = run_key(windows, m, memory, losses, p)
    state = _State.resume(checkpoint, key, model, adamw, log)
    tokens_per_step = p.batch * (length - 1)

    count = sum(w.numel() for w in model.parameters())
    log(f"device: {device_name(device)} | batch {p.batch} windows of {length} | {p.precision}")
    log(f"model: {json.dumps(m.model_dump())} | {count:,} parameters")
    log(f"train: {json.dumps(p.model_dump())}")
    log(f"data: {len(fit)} windows to fit; val_nll below is on the {len(dev)} windows above them")

    began, first = time.monotonic(), state.step
    running = torch.tensor(state.running, device=device)
    while state.step < p.steps and not state.stopped(p):
        step = state.step
        rate = learning_rate(step, p)
        for group in adamw.param_groups:
            group["lr"] = rate
        starts = batch_starts(step, len(fit), length, p)
        batch, height = data[starts.to(device)], fit.heights(starts).to(device)
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=p.precision == "bfloat16"):
            forecast = forward(batch[:, :-1], height)
        value = nll(forecast, batch[:, 1:]).mean()
        loss = value - m.entropy_reg * weight_entropy(forecast[0]).mean()
        if not torch.isfinite(loss):
            problem = f"the loss is {loss.item()} at step {step + 1}"
            raise ZetaError("train", problem, _DIVERGED)
        adamw.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), p.clip)
        adamw.step()
        # Exponential mean over about 50 steps: what the curve shows as training NLL.
        running = value.detach() if step == 0 else running.lerp(value.detach(), 0.02)
        state.step += 1
        if state.step % p.eval_every == 0 or state.step == p.steps:
            model.eval()
            state.running = float(running)
            point = Point(
                step=state.step,
                tokens=state.step * tokens_per_step,
                train_nll=state.running,
                dev_nll=mean_nll(model, dev_data, dev_heights),
                lr=rate,
            )
            state.record(point, model)
            log(progress(state, p, time.monotonic() - began, state.step - first))
        if state.step % p.checkpoint_every == 0:
            state.running = float(running)
            state.save(checkpoint, key, model, adamw)

    elapsed, done = time.monotonic() - began, state.step - first
    if state.stopped(p):
        log(f"early stop: no better val_nll in {p.patience} evaluations")
    speed = done / max(elapsed, 1e-9)
    log(
        f"done: {elapsed / 60:.1f}m | {speed:.2f} steps/s | {speed * tokens_per_step:,.0f} tokens/s"
        f" | best val_nll={state.best_nll:.4f} at step {state.best_step}"
        f" | cost ${elapsed / 3600 * p.usd_per_hour:.2f}"
    )
    model.load_state_dict(state.best)
    return Result(model.eval(), state.best_nll, state.best_step, state.step, state.curve)


def progress(state: _State, p: params.Train, elapsed: float, done: int) -> str:
    """The log line of an evaluation."""
    speed = done / max(elapsed, 1e-9)
    eta = (p.steps - state.step) / max(speed, 1e-9)
    return (
        f"Step {state.step}/{p.steps} | val_nll={state.curve[-1].dev_nll:.4f}"
        f" (best={state.best_nll:.4f}) | {speed:.1f} steps/s | ETA: {_duration(eta)}"
        f" | elapsed: {elapsed / 60:.1f}m"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 90 else f"{seconds / 60:.0f}m"


def run_key(
    windows: Windows,
    m: params.Model,
    memory: params.Memory,
    losses: params.Losses,
    p: params.Train,
) -> str:
    """Digest of all that decides the weights: data, parameters, code, torch's version."""
    digest = hashlib.sha256(windows.spacing.contiguous().numpy().data)
    sections = [part.model_dump() for part in (m, memory, losses)]
    decides = p.model_dump(exclude={"usd_per_hour", "checkpoint_every"})
    digest.update(json.dumps([*sections, decides, torch.__version__]).encode())
    for source in (__file__, model_module.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()


def discard(checkpoint: str | Path) -> None:
    """Remove a checkpoint: the run it belongs to is finished and its result saved."""
    Path(checkpoint).unlink(missing_ok=True)


def curve_csv(result: Result) -> str:
    """The learning curve as CSV, for `dvc plots`."""
    return pd.DataFrame([asdict(point) for point in result.curve]).to_csv(index=False)


def summary(result: Result) -> dict[str, float]:
    """Training metrics; no clock in them, so that equal runs have equal files."""
    return {
        "dev_nll": result.best_nll,
        "best_step": result.best_step,
        "steps": result.steps,
        "tokens": result.curve[-1].tokens,
        "parameters": sum(w.numel() for w in result.model.parameters()),
    }


class _State:
    """All that changes during training besides the weights and the optimizer."""

    def __init__(self) -> None:
        self.step = 0
        self.running = 0.0
        self.best_nll = float("inf")
        self.best_step = 0
        self.since_best = 0
        self.best: dict[str, Tensor] = {}
        self.curve: list[Point] = []

    def record(self, point: Point, model: SpacingMDN) -> None:
        if not math.isfinite(point.dev_nll):
            problem = f"the dev NLL is {point.dev_nll} at step {point.step}"
            raise ZetaError("train", problem, _DIVERGED)
        self.curve.append(point)
        self.since_best += 1
        if point.dev_nll < self.best_nll:
            self.best_nll, self.best_step, self.since_best = point.dev_nll, point.step, 0
            self.best = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def stopped(self, p: params.Train) -> bool:
        return p.patience is not None and self.since_best >= p.patience

    def save(self, path: Path, key: str, model: SpacingMDN, adamw: torch.optim.Optimizer) -> None:
        content: dict[str, Any] = {
            "key": key,
            "model": model.state_dict(),
            "adamw": adamw.state_dict(),
            "state": {**vars(self), "curve": [asdict(point) for point in self.curve]},
        }
        save_tensors(path, content)

    @classmethod
    def resume(
        cls, path: Path, key: str, model: SpacingMDN, adamw: torch.optim.Optimizer, log: Log
    ) -> _State:
        """The state of an interrupted run of the same key, or a fresh one."""
        state = cls()
        if not path.exists():
            return state
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            same = saved["key"] == key
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError):
            same = False
        if not same:
            log(f"{path} belongs to another run (parameters, data or code differ): starting afresh")
            return state
        model.load_state_dict(saved["model"])
        adamw.load_state_dict(saved["adamw"])
        vars(state).update(saved["state"])
        state.curve = [Point(**point) for point in saved["state"]["curve"]]
        log(f"resuming from {path} at step {state.step}")
        return state
