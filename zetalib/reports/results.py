"""Experiments over seeds: each trained and scored once, its record kept as JSON.

A run is an experiment at a size with a seed, trained on the windows of the workspace and scored on
their tail by the functions of the stages, outside the graph: forty runs need no forty commits.
What it leaves under `data/results/` (checkpoint, weights, training record) lets it be cut off and
taken up; the record under `metrics/results/` is what docs are generated from.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from zetalib import atomic, params, provenance
from zetalib.data import window
from zetalib.data.window import Windows, density
from zetalib.errors import ZetaError
from zetalib.forecasting import ahead, forecasts
from zetalib.inverse import noise, solutions
from zetalib.inverse.solutions import SolutionCache
from zetalib.network import model
from zetalib.reports import experiments
from zetalib.scoring import contexts, evaluate, score, skill
from zetalib.training import batches, engine

Log = Callable[[str], None]

RECORDS = Path("metrics/results")
SCRATCH = Path("data/results")
WINDOWS = Path("data/windows")
INVERTED = Path("data/inversion")
PERTURBED_FROM = 40  # inputs from here on are exchanged to see which forecasts move
PERTURBED_WINDOWS = 16
BLOCK, BLOCKS = 4, 10  # windows in a block of the bootstrap at most; blocks at least


@dataclass(frozen=True)
class Run:
    """An experiment at a size with a seed; `stand_in`: scored on a stand-in for the tail."""

    experiment: str
    size: str
    seed: int
    params: params.Params
    stand_in: bool = False

    @property
    def name(self) -> str:
        """Name of its folder and record."""
        return f"{self.experiment}-{self.size}-{self.seed}"

    @property
    def scratch(self) -> Path:
        """Where it keeps what lets it be resumed."""
        return (SCRATCH / "stand-in" if self.stand_in else SCRATCH) / self.name

    @property
    def record(self) -> Path:
        """Its record; that of a stand-in is never tracked and in no table."""
        folder = self.scratch.parent if self.stand_in else RECORDS
        return folder / f"{self.name}.json"  # a suffix would take the place of what follows a dot

    @property
    def command(self) -> str:
        """What a shell runs to get it."""
        return command(self.experiment, self.size, [self.seed]) + " --stand-in" * self.stand_in


def command(experiment: str, size: str, seeds: Iterable[int]) -> str:
    """The command of an experiment over seeds."""
    listed = " ".join(map(str, seeds))
    return f"python -m pipeline.results run {experiment} --size {size} --seeds {listed}"


def plan(
    names: Iterable[str], size: str, seeds: Iterable[int], stand_in: bool = False
) -> list[Run]:
    """The runs of experiments over seeds, all their parameters checked before any starts.

    Raises
    ------
    ZetaError
        As :func:`zetalib.reports.experiments.resolve`.
    """
    seeds, runs = list(seeds), []
    for name in names:
        p = experiments.resolve(name, size)
        for seed in seeds:
            seeded = p.model_copy(update={"train": p.train.model_copy(update={"seed": seed})})
            runs.append(Run(name, size, seed, seeded, stand_in))
    return runs


def splits(p: params.Window, stand_in: bool, folder: Path = WINDOWS) -> tuple[Windows, Windows]:
    """Windows to train on and to score on, of length `p.length`.

    A stand-in is cut from below the tail: of the windows of train and calibration alone the top
    share `p.val_fraction` is scored, `p.calibration_fraction` below it left out.

    Raises
    ------
    ZetaError
        If `p.length` is no multiple of the length of the windows in `folder`.
    """
    fit = window.load(folder, "train")
    if not stand_in:
        return recut(fit, p.length), recut(window.load(folder, "val"), p.length)
    above = window.load(folder, "calibration")
    below = recut(contexts.joined([fit, above]), p.length)
    sizes = window.split_sizes(len(below), p)
    return below[: sizes["train"]], below[len(below) - sizes["val"] :]


def recut(windows: Windows, length: int) -> Windows:
    """Consecutive windows joined into longer ones, or each cut into shorter ones.

    What fills no window at the top is left out.
    """
    had = windows.spacing.shape[1]
    if had % length == 0:
        first = torch.arange(0, had, length)
        earlier = torch.cat([torch.zeros(len(windows), 1), windows.spacing.cumsum(1)], 1)
        # Heights between those of two windows' first zeros: good to far more than three digits.
        last = had / density(windows.gamma[-1:])
        rise = torch.cat([windows.gamma.diff(), last])[:, None]
        gamma = windows.gamma[:, None] + rise * earlier[:, first] / earlier[:, -1:]
        n = windows.n[:, None] + first
        return Windows(windows.spacing.reshape(-1, length), n.flatten(), gamma.flatten())
    many, rest = divmod(length, had)
    if rest or not many:
        problem = f"{length} neither divides {had}, the length of the windows there are, nor the"
        problem += " other way round"
        raise ZetaError("window.length", problem, "Choose one, or run the window stage anew.")
    kept = len(windows) // many * many
    spacing = windows.spacing[:kept].reshape(-1, length)
    return Windows(spacing, windows.n[:kept:many], windows.gamma[:kept:many])


def execute(run: Run, log: Log = print) -> dict[str, Any]:
    """Train and score a run, or what of it is not done yet; its record, which is also written."""
    fit, tail = splits(run.params.window, run.stand_in)
    trained = training_key(run, fit)
    key = provenance.key(
        trained, run.params.evaluate.model_dump(), _hash(tail), provenance.code(__file__)
    )
    if run.record.is_file():
        record: dict[str, Any] = json.loads(run.record.read_text())
        if record["key"] == key:
            log("done before")
            return record
    folder = _trained(run, fit, trained, log)
    training = json.loads((folder / "training.json").read_text())
    log("scoring")
    near = fit[max(len(fit) - run.params.calibrate.contexts, 0) :]  # the top: nearest to the tail
    record = {
        "key": key,
        "experiment": run.experiment,
        "group": experiments.group(run.experiment),
        "size": run.size,
        "seed": run.seed,
        "command": run.command,
        "params": run.params.model_dump(include=set(_DECIDING)),
        **{name: training[name] for name in training if name != "key"},
        **scores(model.load(folder / "model"), tail, run.params, _kept(run.params)[0], near),
    }
    atomic.write_json(run.record, record)
    s = record["scores"]
    log(f"NLL {s['nll']:.4f} | MAE {s['mae']:.4f} | Err@h {s['err']}")
    return record


_DECIDING = ("window", "model", "memory", "losses", "train", "evaluate")


def _trained(run: Run, fit: Windows, key: str, log: Log) -> Path:
    """The folder with the weights of a run: its own, or one trained to the same parameters."""
    for found in sorted(run.scratch.parent.glob("*/training.json")):
        if json.loads(found.read_text())["key"] == key:
            log(f"weights of {found.parent}")
            return found.parent
    p, folder = run.params, run.scratch
    checkpoint = folder / "train.pt"
    cache, solved = _kept(p)
    solving = 0.0
    if p.model.inversion and not solved:
        log("solving the windows to train on: the invert stage left none")
        solving = _solve(cache, batches.split_dev(fit, p.train), folder)
    result = engine.train(fit, p.model, p.memory, p.losses, p.train, checkpoint, log, cache=cache)
    model.save(result.model, folder / "model")
    training = {
        "key": key,
        "device": engine.device_name(next(result.model.parameters()).device),
        "seconds": result.seconds,
        "solving_seconds": solving,
        **engine.summary(result),
        "curve": [
            {"step": point.step, "seconds": point.seconds, "dev_nll": point.dev_nll}
            for point in result.curve
        ],
    }
    atomic.write_json(folder / "training.json", training)
    engine.discard(checkpoint)
    return folder


def _kept(p: params.Params) -> tuple[SolutionCache, bool]:
    """What the invert stage solved, if anything in windows so long; others are as they come."""
    long = []
    for path in sorted(INVERTED.glob("*.safetensors")) if p.model.inversion else []:
        with safe_open(path, "numpy") as file:
            if file.get_slice("spacing").get_shape()[1] == p.window.length - 1:
                long.append(path)
    return solutions.load(*long), bool(long)


def _solve(cache: SolutionCache, windows: Iterable[Windows], folder: Path) -> float:
    """Add the solutions of `windows` to `cache`; the CPU seconds they took, now or before."""
    path, cost = folder / "inversion.safetensors", folder / "inversion.json"
    spacing = np.concatenate([w.spacing.numpy()[:, :-1] for w in windows])
    height = np.concatenate([w.heights().numpy() for w in windows])
    if not cost.is_file():
        began = time.process_time()
        solutions.save(path, spacing, height, noise.forecasts(spacing, height))
        atomic.write_json(cost, {"seconds": time.process_time() - began})
    cache.add(spacing, height, safetensors.numpy.load_file(path)["forecasts"])
    return float(json.loads(cost.read_text())["seconds"])


def scores(
    network: model.SpacingMDN,
    tail: Windows,
    p: params.Params,
    cache: SolutionCache | None = None,
    below: Windows | None = None,
) -> dict[str, Any]:
    """Scores, rollouts and the perturbation test of a forecaster on a split, for its record.

    `below`: windows that the law of the zeros ahead is fitted to, for a model with one.
    """
    engine.setup(p.train)
    found = forecasts.forecast(network, tail, cache)
    cache = SolutionCache() if cache is None else cache
    laws = None
    if network.config.inversion and below is not None:
        laws = ahead.fit_laws(below, p.evaluate, p.calibrate, cache)
    (rolled, *_) = evaluate.rollouts(
        tail, ahead.roller(network, p.evaluate, cache, laws), p.evaluate
    )
    first = min(PERTURBED_FROM, p.window.length // 2)
    return {
        "targets": len(found.y),
        "trajectories": p.evaluate.trajectories,
        "scores": {
            **score.scores(found.mixture, found.y),
            **evaluate.flat(rolled, p.evaluate),
        },
        "constant": {
            "mae": float(np.abs(found.y - 1).mean()),
            "err": evaluate.at_horizons(rolled.errors("always 1").mean(0), p.evaluate),
        },
        "skill": _skill(found, tail),
        "perturbation": {
            "from": first,
            "moves": moves(network, tail[:PERTURBED_WINDOWS], first).tolist(),
        },
        **_tuned(network),
    }


def _skill(found: forecasts.Forecasts, tail: Windows) -> dict[str, Any]:
    """Scores with errors over blocks of windows; by height and by spacings known."""
    count, length = tail.spacing.shape
    block = min(BLOCK, count // BLOCKS)
    scores = {"": skill.by_target(found.mixture, found.y)}
    table = skill.compare(scores, count, length, block)[0][""]
    table |= {by: {str(k): v for k, v in table[by].items()} for by in ("by_height", "by_known")}
    return {name: value for name, value in table.items() if name != "behind"}


def _tuned(network: model.SpacingMDN) -> dict[str, Any]:
    """Where learned frequencies in the place of log p began and ended; {} if none are learned."""
    rotary = network.rotary
    if rotary is None or rotary.shift is None or not rotary.of_primes.any():
        return {}
    both = {"start": rotary.base, "end": rotary.frequencies().detach()}
    return {"frequencies": {name: f[rotary.of_primes].tolist() for name, f in both.items()}}


def moves(network: model.SpacingMDN, windows: Windows, first: int) -> NDArray[np.float64]:
    """How far forecasts move when the inputs from position `first` on are exchanged.

    The windows swap these inputs among themselves. Entry t is the largest change of the mean of
    the forecast made at position t (from spacings 0 ... t, if the model is causal): positions
    0 ... 2 `first` - 1, in mean spacings. A causal forecaster has exact zeros below `first`.
    """
    exchanged = windows.spacing.clone()
    exchanged[:, first:] = windows.spacing.roll(1, 0)[:, first:]
    solve = model.solver_of(network)
    before, after = (
        forecasts.forecast_windows(network, spacing, windows.heights(), solve).mean()
        for spacing in (windows.spacing, exchanged)
    )
    return np.asarray(np.abs(after - before).max(0)[: 2 * first])


def execute_all(runs: list[Run], jobs: int, log: Log = print) -> None:
    """Execute runs, `jobs` at a time in processes of their own.

    Runs that need the same weights go one after the other, so that these are trained once.

    Raises
    ------
    ZetaError
        When all that could be done is done, if some failed; each failure is logged.
    """
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        decides = run.params.model_dump(include=set(_DECIDING) - {"evaluate"})
        tasks.setdefault(json.dumps(decides), []).append(run)
    failed = []
    # A fresh process a task: torch's threads and determinism are set for a process.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        pending = {pool.submit(_work, task): task for task in tasks.values()}
        for done in as_completed(pending):
            try:
                done.result()
            except ZetaError as error:
                failed.append(pending[done][0].name)
                log(f"{failed[-1]} failed: {error}")
    if failed:
        problem = f"{len(failed)} failed: {', '.join(failed)}"
        raise ZetaError("results", problem, "Run the same again: what is done is kept.")


def _work(runs: list[Run]) -> None:
    for run in runs:
        run.scratch.mkdir(parents=True, exist_ok=True)
        with (run.scratch / "log.txt").open("a") as file:

            def log(line: str, name: str = run.name, file: Any = file) -> None:
                print(f"[{name}] {line}", flush=True)
                print(line, file=file, flush=True)

            execute(run, log)


def read(folder: Path = RECORDS) -> list[dict[str, Any]]:
    """All records, by experiment, size and seed."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda r: (r["experiment"], r["size"], r["seed"]))


def training_key(run: Run, fit: Windows) -> str:
    """Digest of all that decides the weights: data, parameters, code, torch's version."""
    p = run.params
    decides = p.train.model_dump(exclude={"usd_per_hour", "checkpoint_every", "wandb"})
    sections = [section.model_dump() for section in (p.model, p.memory, p.losses)]
    return provenance.key(
        _hash(fit), *sections, decides, provenance.code(engine.__file__), torch.__version__
    )


def _hash(windows: Windows) -> str:
    return hashlib.sha256(windows.spacing.contiguous().numpy().data).hexdigest()
