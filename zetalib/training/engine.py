"""The training engine: one loop for every model, number of processes and kind of device.

Nothing here depends on the clock except what is printed, `seconds` in the curve, and, where
`train.max_minutes` is set, the number of steps: the same parameters and data give the same weights,
interrupted or not.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
import pickle
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from zetalib import params, provenance
from zetalib.data.window import Windows, save_tensors
from zetalib.errors import ZetaError
from zetalib.inverse.solutions import SolutionCache
from zetalib.network import memory
from zetalib.network.model import Solve, SpacingMDN, Trace, learn_centroid, nll, solver_of
from zetalib.network.solution_density import SolutionDensity
from zetalib.training import batches, losses
from zetalib.training.batches import Batches
from zetalib.training.distributed import ALONE, Group
from zetalib.training.optimizers import Optimizers, learning_rate, move_average, progress

Log = Callable[[str], None]

_DIVERGED = "Lower train.lr or train.clip, or raise model.sigma_floor; no weights were written."
_CENTROID = 1024  # windows at most that the centroid of a memory is taken over


@dataclass
class Point:
    """One evaluation: step, tokens seen, training and dev NLL, learning rate of the step.

    `seconds` is the time of training so far, by `train.clock`; runs that differ in it alone are
    equal.
    """

    step: int
    tokens: int
    train_nll: float
    dev_nll: float
    lr: float
    seconds: float = field(default=0.0, compare=False)


@dataclass
class Result:
    """What training leaves: the weights of the best evaluation and the learning curve.

    `seconds` is the time of training by `train.clock`, all sessions of a resumed one together.
    """

    model: SpacingMDN
    best_nll: float
    best_step: int
    steps: int
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0


Watch = Callable[[Point], None]


def setup(p: params.Train) -> torch.device:
    """Fix threads and determinism; choose the device.

    Raises
    ------
    ZetaError
        If `train.device` is cuda and there is none.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(p.threads)
    if p.compile:
        torch.use_deterministic_algorithms(True)
    else:  # the same, without two seconds for torch's compiler
        torch.set_deterministic_debug_mode("error")
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
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads), {size:.1f} GiB"


def peak_memory(device: torch.device) -> float:
    """Most memory used so far, in GiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@torch.no_grad()
def mean_nll(
    model: SpacingMDN, windows: Windows, solve: Solve, device: torch.device, batch: int = 64
) -> float:
    """Mean NLL over positions 2 ... T of windows, summed in float64."""
    model.eval()
    total = 0.0
    for i in range(0, len(windows), batch):
        part = windows[i : i + batch]
        x = part.spacing.to(device, model.takes)
        height = part.heights().to(device)
        forecast = model(x[:, :-1], height, solve(x[:, :-1], height))
        total += float(nll(forecast, x[:, 1:]).double().sum())
    return total / (len(windows) * (windows.spacing.shape[1] - 1))


def train(
    windows: Windows,
    m: params.Model,
    memory_params: params.Memory,
    loss_params: params.Losses,
    p: params.Train,
    checkpoint: str | Path,
    log: Log = print,
    watch: Watch | None = None,
    group: Group = ALONE,
    cache: SolutionCache | None = None,
) -> Result:
    """Train a forecaster on `windows` (the training split) and return the best one found.

    "Best" is by NLL on the dev slice, the top `dev_fraction` of the windows given; this is the
    `val_nll` of the log lines. A checkpoint is written every `checkpoint_every` steps; a later
    call with the same parameters, data, code and number of processes resumes from it and ends with
    the same weights, to the bit, as a run that was never interrupted. The caller removes it when
    the result is safe (:func:`discard`).

    Parts of a batch (`accumulate`, processes) give the step of the whole batch up to rounding, but
    for what is not a mean over windows: the statistics and roles losses, z-scored within a part,
    and the model's own samples, drawn for each part alike.

    Parameters
    ----------
    watch : callable, optional
        Is given each point of the curve as it comes.
    cache : SolutionCache, optional
        What is solved already, for a model that starts from solutions.
    group : Group
        The processes that train together; rank 0 alone logs, is watched and writes. Each returns
        the same result.

    Raises
    ------
    ZetaError
        If the loss is not finite, naming the step; if the processes cannot share the batch, or do
        not agree on what they train.
    """
    device = setup(p)
    log = log if group.rank == 0 else _silent
    checkpoint = Path(checkpoint)
    key = run_key(windows, m, memory_params, loss_params, p, group)
    agree(group, key, p, device)
    torch.manual_seed(p.seed)
    length = windows.spacing.shape[1]
    model = SpacingMDN(m, memory_params, length - 1).to(device)
    solve = solver_of(model, cache)
    optimizers = Optimizers(model, p, memory_params.lr)
    shown = copy.deepcopy(model) if p.ema else model  # what is evaluated and kept
    fit, dev = batches.split_dev(windows, p)
    draw = Batches(fit, p, device, model.takes)
    forward = compiled(model, p, device, log)
    state = _State.resume(checkpoint, key, model, shown, optimizers, group, device, log)
    tokens_per_step = p.batch * (length - 1)

    count = sum(w.numel() for w in model.parameters())
    log(
        f"device: {device_name(device)} | processes {group.world} | batch {p.batch} windows of"
        f" {length} | {p.precision} | data: {draw.mode}"
    )
    log(f"model: {json.dumps(m.model_dump())} | {count:,} parameters")
    log(f"memory: {json.dumps(memory_params.model_dump())}")
    log(f"losses: {json.dumps(loss_params.model_dump())}")
    log(f"train: {json.dumps(p.model_dump())}")
    log(f"data: {len(fit)} windows to fit; val_nll below is on the {len(dev)} windows above them")
    if p.max_minutes is not None:
        log(f"the clock ends this run after {p.max_minutes:g} minutes: no two such runs are equal")

    clock = time.process_time if p.clock == "cpu" else time.monotonic
    began, first, earlier = clock(), state.step, state.seconds
    running = torch.tensor(state.running, device=device)

    def elapsed() -> float:
        return earlier + clock() - began

    def evaluate(rate: float) -> None:
        state.running, state.seconds = float(running), elapsed()
        dev_nll = mean_nll(shown, dev, solve, device) if group.rank == 0 else 0.0
        point = Point(
            step=state.step,
            tokens=state.step * tokens_per_step,
            train_nll=state.running,
            dev_nll=group.from_first(dev_nll, device),
            lr=rate,
            seconds=state.seconds,
        )
        state.record(point, shown)
        log(progress_line(state, p, (state.step - first) / max(elapsed() - earlier, 1e-9)))
        if watch is not None and group.rank == 0:
            watch(point)

    while not state.stopped(p):
        seconds = elapsed()
        if p.max_minutes is not None:
            seconds = group.from_first(seconds, device)
        done = progress(state.step, p, seconds)
        rate = learning_rate(state.step, p, done)
        if done >= 1:
            if not state.curve or state.curve[-1].step < state.step:
                evaluate(rate)
            break
        mine = group.slice(batches.starts(state.step, len(fit), length, p))
        model.train()
        value = torch.zeros((), device=device)
        for part in mine.chunk(p.accumulate):
            spacing, height = draw(part)
            # Every process and part draws alike: what is dropped or permuted is so for the batch.
            generator = torch.Generator().manual_seed(p.seed * 1_000_003 + state.step)
            with torch.autocast(device.type, torch.bfloat16, enabled=p.precision == "bfloat16"):
                loss, parts = losses.total(
                    forward, spacing, height, solve, state.step, loss_params, generator
                )
            (loss / p.accumulate).backward()  # type: ignore[no-untyped-call]
            value += torch.where(loss.isfinite(), parts["nll"], loss).detach() / p.accumulate
        gradients = [w.grad for w in model.parameters() if w.grad is not None]
        group.average_([value, *gradients])
        if not torch.isfinite(value):
            problem = f"the loss is {value.item()} at step {state.step + 1}"
            raise ZetaError("train", problem, _DIVERGED)
        torch.nn.utils.clip_grad_norm_(model.parameters(), p.clip)
        optimizers.step(rate)
        optimizers.zero_grad()
        if model.memory is not None and memory_params.norm is not None:
            memory.project(model.memory, memory_params.norm)
        # Exponential mean over about 50 steps: what the curve shows as training NLL.
        running = value if state.step == 0 else running.lerp(value, 0.02)
        state.step += 1
        if p.ema:
            move_average(shown, model, state.step, p.ema)
        if state.step % p.eval_every == 0:
            evaluate(rate)
        if state.step % p.checkpoint_every == 0 and group.rank == 0:
            state.running, state.seconds = float(running), elapsed()
            state.save(checkpoint, key, model, shown, optimizers)

    state.seconds = elapsed()
    if state.stopped(p):
        log(f"early stop: no better val_nll in {p.patience} evaluations")
    speed = (state.step - first) / max(state.seconds - earlier, 1e-9)
    log(
        f"done: {state.seconds / 60:.1f}m | {speed:.2f} steps/s"
        f" | {speed * tokens_per_step:,.0f} tokens/s | peak memory {peak_memory(device):.2f} GiB"
        f" | best val_nll={state.best_nll:.4f} at step {state.best_step}"
        f" | cost ${state.seconds / 3600 * p.usd_per_hour:.2f}"
    )
    model.load_state_dict(state.best)
    if p.rescale:
        rescale(model, dev, solve, device)
        factors = " and ".join(f"{float(part.spread):.4f}" for part in spreads(model))
        log(f"sigma x {factors}: val_nll={mean_nll(model, dev, solve, device):.4f}")
    if model.memory is not None:
        some = fit[:: math.ceil(len(fit) / _CENTROID)]
        spacing = some.spacing.to(device, model.takes)
        learn_centroid(model.eval(), spacing[:, :-1], some.heights().to(device), solve)
    return Result(
        model.eval(), state.best_nll, state.best_step, state.step, state.curve, state.seconds
    )


def _silent(_: str) -> None:
    """The log of the ranks above 0."""


def agree(group: Group, key: str, p: params.Train, device: torch.device) -> None:
    """See that the processes can share the batch, and train the same with the same."""
    if p.batch % (group.world * p.accumulate):
        problem = f"{p.batch} is no multiple of {group.world} processes x {p.accumulate} parts"
        raise ZetaError("params.yaml: train.batch", problem, "Change it or train.accumulate.")
    if group.bytes_from_first(key.encode(), device) != key.encode():
        problem = f"rank {group.rank} has other data, parameters or code than rank 0"
        raise ZetaError("train", problem, "Give every machine the same checkout and data.")


def compiled(model: SpacingMDN, p: params.Train, device: torch.device, log: Log) -> SpacingMDN:
    """The model as it is called in training: compiled where asked for and of use."""
    if not p.compile:
        return model
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        log("train.compile: not on a GPU below compute capability 8.0; going on without")
        return model
    return cast(SpacingMDN, torch.compile(model))


def progress_line(state: _State, p: params.Train, speed: float) -> str:
    """The log line of an evaluation, at so many steps a second."""
    left = (p.steps - state.step) / max(speed, 1e-9)
    total = f"{p.steps}"
    if p.max_minutes is not None:
        left = max(60 * p.max_minutes - state.seconds, 0.0)
        total = f"~{state.step + speed * left:.0f}"
    return (
        f"Step {state.step}/{total} | val_nll={state.curve[-1].dev_nll:.4f}"
        f" (best={state.best_nll:.4f}) | {speed:.1f} steps/s | ETA: {_duration(left)}"
        f" | elapsed: {state.seconds / 60:.1f}m"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 90 else f"{seconds / 60:.0f}m"


def run_key(
    windows: Windows,
    m: params.Model,
    memory_params: params.Memory,
    loss_params: params.Losses,
    p: params.Train,
    group: Group = ALONE,
) -> str:
    """Digest of all that decides the weights: data, parameters, code, processes, torch."""
    digest = hashlib.sha256()
    for tensor in (windows.spacing, windows.gamma):
        digest.update(tensor.contiguous().numpy().data)
    without = {"usd_per_hour", "checkpoint_every", "processes", "data", "live", "wandb"}
    sections = [part.model_dump() for part in (m, memory_params, loss_params)]
    decides = p.model_dump(exclude=without)
    code = provenance.code(__file__)
    return provenance.key(
        digest.hexdigest(), *sections, decides, group.world, code, torch.__version__
    )


def discard(checkpoint: str | Path) -> None:
    """Remove a checkpoint: the run it belongs to is finished and its result saved."""
    Path(checkpoint).unlink(missing_ok=True)


def curve_csv(result: Result) -> str:
    """The learning curve as CSV, for `dvc plots`; no clock in it."""
    return _curve(result).drop(columns="seconds").to_csv(index=False)


def timed_curve_csv(result: Result) -> str:
    """The learning curve with wall seconds: never the same twice, so not for tracked files."""
    return _curve(result).to_csv(index=False)


def _curve(result: Result) -> pd.DataFrame:
    return pd.DataFrame([asdict(point) for point in result.curve])


def spreads(model: SpacingMDN) -> list[SpacingMDN | SolutionDensity]:
    """What has a factor on its sigma: the network, and what is about solutions."""
    return [model] if model.density is None else [model, model.density]


@torch.no_grad()
def rescale(
    model: SpacingMDN, windows: Windows, solve: Solve, device: torch.device, batch: int = 64
) -> None:
    """Multiply all sigma by the factor, between 1/2 and 2, with which windows are forecast best.

    A network that saw each window many times is too sure of itself; windows it did not train on
    say by how much. (Temperature scaling, Guo et al., ICML 2017, for densities.) Where there are
    two forecasts, that of the network alone first.
    """
    model.eval()
    for expert, part in enumerate(spreads(model)):
        forecasts = []
        for i in range(0, len(windows), batch):
            some = windows[i : i + batch]
            x, height = some.spacing.to(device, model.takes), some.heights().to(device)
            trace = Trace(probabilities=False)
            found = model(x[:, :-1], height, solve(x[:, :-1], height), trace=trace)
            if trace.experts is not None:
                found = trace.experts[1 + expert]
            forecasts.append((*(f.double() for f in found), x[:, 1:].double()))
        fixed = model.config.components if expert else 0  # Gaussians of the other
        part.spread.fill_(best_spread(forecasts, fixed))


def best_spread(forecasts: list[tuple[Tensor, Tensor, Tensor, Tensor]], fixed: int = 0) -> float:
    """The best factor for (log_pi, mu, sigma, y), but for the first `fixed` Gaussians."""

    def loss(log_scale: float) -> float:
        scale = torch.ones(forecasts[0][2].shape[-1], dtype=torch.float64)
        scale[fixed:] = math.exp(log_scale)
        values = [
            nll((pi, mu, scale.to(mu.device) * sigma), y).sum() for pi, mu, sigma, y in forecasts
        ]
        return float(torch.stack(values).sum())

    from scipy.optimize import minimize_scalar  # half a second, for those who need it

    bounds = (-math.log(2), math.log(2))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)


def summary(result: Result) -> dict[str, float]:
    """Training metrics; no clock in them, so that equal runs have equal files."""
    return {
        "dev_nll": result.best_nll,
        "best_step": result.best_step,
        "steps": result.steps,
        "tokens": result.curve[-1].tokens,
        "parameters": sum(w.numel() for w in result.model.parameters()),
        "spread": float(spreads(result.model)[-1].spread),
    }


class _State:
    """All that changes during training besides the weights and the optimizers."""

    def __init__(self) -> None:
        self.step = 0
        self.running = 0.0
        self.seconds = 0.0
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

    def save(
        self, path: Path, key: str, model: SpacingMDN, shown: SpacingMDN, optimizers: Optimizers
    ) -> None:
        content: dict[str, Any] = {
            "key": key,
            "model": model.state_dict(),
            "shown": shown.state_dict(),
            "optimizers": optimizers.state_dict(),
            "state": {**vars(self), "curve": [asdict(point) for point in self.curve]},
        }
        save_tensors(path, content)

    @classmethod
    def resume(
        cls,
        path: Path,
        key: str,
        model: SpacingMDN,
        shown: SpacingMDN,
        optimizers: Optimizers,
        group: Group,
        device: torch.device,
        log: Log,
    ) -> _State:
        """The state of an interrupted run of the same key, or a fresh one; rank 0 alone reads."""
        state = cls()
        content = path.read_bytes() if group.rank == 0 and path.exists() else None
        found = group.from_first(float(content is not None), device)
        if not found:
            return state
        content = group.bytes_from_first(content or b"", device)
        try:
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            same = saved["key"] == key
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError):
            same = False
        if not same:
            log(f"{path} belongs to another run (parameters, data or code differ): starting afresh")
            return state
        model.load_state_dict(saved["model"])
        shown.load_state_dict(saved["shown"])
        optimizers.load_state_dict(saved["optimizers"])
        vars(state).update(saved["state"])
        state.curve = [Point(**point) for point in saved["state"]["curve"]]
        log(f"resuming from {path} at step {state.step}")
        return state
