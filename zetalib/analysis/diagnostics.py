"""What a forecaster is made of: diagnostics A to K (docs/reference.md, 1.4), heads, weights.

Everything is measured on one set of targets: evenly spread positions of evenly spread windows of
one split, forecast from the earlier spacings of their window. The effect of a part (a slot, a
head) is what changes when it alone is off. Definitions and reasons: docs/diagnostics.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from zetalib import params
from zetalib.analysis import slots
from zetalib.data.window import Windows, rounded_height
from zetalib.densities.mixture import Mixture
from zetalib.errors import ZetaError
from zetalib.forecasting import interventions, rollout, stretches
from zetalib.forecasting.decoding import Forecaster
from zetalib.forecasting.forecasts import to_mixture
from zetalib.inverse.solutions import Solution, SolutionCache
from zetalib.network.memory import Intervention
from zetalib.network.model import Solve, SpacingMDN, Trace, nll, solver_of
from zetalib.training import losses

Floats = NDArray[np.float64]
Json = dict[str, Any]
Inputs = tuple[Tensor, Tensor, Solution | None]  # of the model: spacing, height, solution

BLOCKS = 8  # consecutive groups of windows, for H
SHARES = tuple(round(0.1 * k, 1) for k in range(10))  # of weights set to zero
FOCUS_STEPS = stretches.FORCED  # of the rollouts behind rollout_effect: Err@10
FOCUS = 5.0  # per cent of Err@10 from which a slot holds focus
FOLDS = 8  # of the slot probe
STRETCHES = 4  # of a window, over which effects are averaged for the probe

# Letter: what it is, comparison with its target, target. F has none.
ITEMS: dict[str, tuple[str, str, float | None]] = {
    "A": ("ablation dNLL of the slot that matters most", ">", 0.02),
    "B": ("cosine similarity of slots, mean over pairs", "<", 0.5),
    "C": ("correlation of slot gradients, mean over pairs", "<", 0.7),
    "D": ("readout weight of the heaviest slot, times M (uniform: 1)", "<", 2.0),
    "E": ("entropy of slot effects, nats", ">", 1.5),
    "F": ("slot norm, mean", "", None),
    "G": ("rollout drift: slope of log Err@h on log h", "<", 0.5),
    "H": ("coefficient of variation of the MAE across blocks of height", "<", 0.3),
    "I": ("attention centre of mass, std in spacings", ">", 10.0),
    "J": ("growth of exp(NLL) under slot permutation", "<", 0.1),
    "K": ("effective rank of slot gradients, share of M", ">", 0.5),
}
# Name: what the number is, comparison under which the phenomenon is there, threshold.
PHENOMENA: dict[str, tuple[str, str, float]] = {
    "shortcut": ("NLL lost with the whole memory off", "<", 0.02),
    "symmetry": ("cosine similarity of slot effects, mean over pairs", ">", 0.7),
    "co_adaptation": ("interaction of pairs of slots over the sum of their effects", ">", 0.5),
    "gradient_correlation": ("correlation of slot gradients, mean over pairs", ">", 0.7),
    "train_vs_rollout": ("Err@10 on its own output over Err@10 on true spacings", ">", 1.0),
    "slot_effect_norm": ("largest share of a slot in the norms of slot effects", ">", 0.5),
}
HARMLESS = 0.01  # nats: what a share of weights set to zero may cost and still "can go"
NO_MEMORY = "the model has no memory"
ONE_SLOT = "one slot has no pair"


@dataclass(frozen=True)
class Targets:
    """What is forecast: `at` (P,) of the inputs `spacing` (B, T) at `height` (B,); truth (B, P).

    `solution`, (B, T), for a model that starts from it.
    """

    spacing: Tensor
    height: Tensor
    solution: Solution | None
    at: Tensor
    y: Floats

    @staticmethod
    def of(windows: Windows, count: int, positions: int, solve: Solve) -> Targets:
        """Evenly spread positions of at most `count` evenly spread windows."""
        chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
        spacing = windows.spacing[chosen]
        length = spacing.shape[1] - 1
        at = torch.linspace(0, length - 1, min(positions, length)).round().long()
        y = spacing[:, 1:][:, at].numpy()
        height = rounded_height(windows.gamma[chosen])
        return Targets(spacing[:, :-1], height, solve(spacing[:, :-1], height), at, y)

    def batches(self, size: int = 16) -> list[tuple[Inputs, Tensor]]:
        """What the model is given, and truth (float64), of `size` windows at a time."""
        y, found = torch.from_numpy(self.y), []
        for i in range(0, len(self.y), size):
            part = slice(i, i + size)
            solution = None if self.solution is None else self.solution.at(part)
            found.append(((self.spacing[part], self.height[part], solution), y[part]))
        return found


@torch.no_grad()
def forecast(
    model: Callable[..., Any], targets: Targets, intervene: Intervention | None = None
) -> Mixture:
    """Forecasts of the targets, shape (B, P, K), with parts of the model off or changed."""
    parts = [
        to_mixture(model(*inputs, at=targets.at, intervene=intervene))
        for inputs, _ in targets.batches()
    ]
    return Mixture(*(np.concatenate([getattr(m, f) for m in parts]) for f in ("pi", "mu", "sigma")))


def mean_nll(mixture: Mixture, y: Floats) -> float:
    return float(-mixture.logpdf(y).mean())


def masked_nll(model: SpacingMDN, targets: Targets) -> pd.DataFrame:
    """NLL against the share of weights, smallest magnitudes first, that are set to zero.

    The weights are the matrices of all linear layers, ranked together. Columns: share, nll.
    """
    matrices = {
        f"{name}.weight": module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    size = torch.cat([w.abs().flatten() for w in matrices.values()]).sort().values
    rows = []
    for share in SHARES:
        least = size[min(round(share * len(size)), len(size) - 1)]
        kept = {name: w * (w.abs() >= least) for name, w in matrices.items()}

        def run(*inputs: Tensor, kept: dict[str, Tensor] = kept, **rest: Any) -> Any:
            return functional_call(model, kept, inputs, rest)

        rows.append((share, mean_nll(forecast(run, targets), targets.y)))
    return pd.DataFrame(rows, columns=["share", "nll"])


@dataclass(frozen=True)
class Attention:
    """Where attention goes, averaged over windows and the queries of the forecasts.

    Attributes
    ----------
    distance : shape (layers, heads)
        Mean distance, in spacings, between a query and the spacings it attends to.
    entropy : shape (layers, heads)
        Of the attention to spacings, nats.
    centre : shape (M,) or None
        Mean position in the window of the spacings a slot attends to; None if slots see no data.
    slots : shape (M,) or None
        Share of each slot in what is read from memory; None without memory.
    spread : float or None
        Entropy over slots of what one query reads from memory, averaged, nats.
    """

    distance: Floats
    entropy: Floats
    centre: Floats | None
    slots: Floats | None
    spread: float | None


@torch.no_grad()
def attend(model: SpacingMDN, targets: Targets, size: int = 4) -> Attention:
    """Attention of the model on the targets' windows, `size` of them at a time."""
    distance: list[Tensor] = []
    entropy: list[Tensor] = []
    centre: list[Tensor] = []
    mass: list[Tensor] = []
    spread: list[Tensor] = []
    for inputs, _ in targets.batches(size):
        trace = Trace()
        model(*inputs, at=targets.at, trace=trace)
        position = torch.arange(inputs[0].shape[1], dtype=torch.float32)
        for probabilities in trace.attention:
            own = probabilities.shape[-1] - len(position)  # slots of a prefix come first
            among = probabilities[..., own:, own:]
            among = among / among.sum(-1, keepdim=True)
            distance.append((position - among @ position).mean((0, 2)))
            entropy.append(torch.special.entr(among).sum(-1).mean((0, 2)))
            if own:
                centre.append(_centre(probabilities[..., :own, own:], position))
        for probabilities in trace.memory_attention:
            centre.append(_centre(probabilities[:, :, -1, :, : len(position)], position))
        for read in trace.memory_mass:
            share = read / read.sum(-1, keepdim=True).clamp(min=1e-12)
            mass.append(read.mean((0, 1, 2)))
            spread.append(torch.special.entr(share).sum(-1).mean())
    shape = (-1, model.config.layers, model.config.heads)
    slots_read = _mean(mass)
    return Attention(
        torch.stack(distance).reshape(shape).mean(0).double().numpy(),
        torch.stack(entropy).reshape(shape).mean(0).double().numpy(),
        _mean(centre) if sees_data(model) else None,
        None if slots_read is None else slots_read / slots_read.sum(),
        None if slots_read is None else float(torch.stack(spread).mean()),
    )


def sees_data(model: SpacingMDN) -> bool:
    """Whether slots attend to spacings: those of a causal prefix do not."""
    memory = model.memory_config
    return memory.kind == "postfix" or memory.mask == "leaky"


def _centre(probabilities: Tensor, position: Tensor) -> Tensor:
    """Mean position attended to by each slot: (B, H, M, T) to (M,)."""
    mass = probabilities.sum(-1).clamp(min=1e-12)
    return (probabilities @ position / mass).mean((0, 1))


def _mean(parts: list[Tensor]) -> Floats | None:
    return torch.stack(parts).mean(0).double().numpy() if parts else None


def slot_gradients(model: SpacingMDN, targets: Targets, size: int = 4) -> Floats:
    """Gradient of the NLL of `size` windows at a time with respect to the slots as fed.

    Returns
    -------
    array, shape (M, groups * width)
    """
    found = []
    for inputs, y in targets.batches(size):
        trace = Trace(probabilities=False)
        loss = nll(model(*inputs, at=targets.at, trace=trace), y).mean()
        assert trace.slots is not None
        (gradient,) = torch.autograd.grad(loss, trace.slots)
        found.append(gradient.double().numpy())
    return np.concatenate(found, axis=1)


def stretch_means(effect: Floats) -> Floats:
    """Effects on targets (B, P) as features (B, 2 STRETCHES): signed and absolute means."""
    parts = np.array_split(effect, STRETCHES, axis=1)
    return np.stack([f(part).mean(1) for part in parts for f in (np.asarray, np.abs)], axis=1)


def item(letter: str, value: float | None, reason: str | None = None, **more: Any) -> Json:
    """A value of the list A to K beside its target; `reason` says why there is none."""
    _, sign, target = ITEMS[letter]
    passes = None
    if value is not None and target is not None:
        passes = value > target if sign == ">" else value < target
    wanted = None if target is None else f"{sign} {target:g}"
    return {"value": value, "target": wanted, "passes": passes, "reason": reason, **more}


def phenomenon(name: str, value: float | None, reason: str | None = None) -> Json:
    """A number and whether it says that the phenomenon is there."""
    _, sign, threshold = PHENOMENA[name]
    present = None if value is None else (value > threshold if sign == ">" else value < threshold)
    return {"value": value, "present": present, "threshold": threshold, "reason": reason}


@dataclass(frozen=True)
class Effects:
    """What changes: the NLL, shape (changes,); the forecast mean, shape (changes, B, P)."""

    nll: Floats
    mean: Floats


def effects(
    model: SpacingMDN, targets: Targets, base: Mixture, changes: Sequence[Intervention]
) -> Effects:
    """The effects of changes to the model, one at a time; `base` is its forecast as it is."""
    before, centre = mean_nll(base, targets.y), base.mean()
    losses_, means = [], []
    for change in changes:
        mixture = forecast(model, targets, change)
        losses_.append(mean_nll(mixture, targets.y) - before)
        means.append(mixture.mean() - centre)
    return Effects(np.array(losses_), np.array(means))


def block_variation(values: Floats, blocks: int = BLOCKS) -> float:
    """Standard deviation over |mean| of a quantity (B, P), averaged in blocks of windows."""
    means = np.array([part.mean() for part in np.array_split(values, min(blocks, len(values)))])
    return float(means.std() / abs(means.mean())) if means.mean() else 0.0


@dataclass(frozen=True)
class Record:
    """Stretches of true spacings (trajectories, context + horizon) that rollouts start in."""

    true: Floats
    heights: Floats
    context: int

    @staticmethod
    def of(windows: Windows, trajectories: int, context: int, horizon: int) -> Record:
        """Spread over the record that the windows form."""
        some = stretches.stretches(windows, trajectories, context, horizon, "diagnose.horizon")
        return Record(np.column_stack([some.contexts, some.futures]), some.heights, context)

    def free(self, forecaster: Forecaster, horizon: int) -> Floats:
        """Err@1 ... Err@horizon, the mean fed back."""
        contexts, futures = self.true[:, : self.context], self.true[:, self.context :]
        rolled = rollout.rollout(forecaster, contexts, self.heights, horizon)
        assert rolled.mean is not None
        return rollout.accumulated_error(rolled.mean, futures[:, :horizon])

    def forced(self, forecaster: Forecaster, horizon: int, longest: int | None = None) -> Floats:
        """The same with the true spacing fed back at each step, to contexts of up to `longest`."""
        futures = self.true[:, self.context : self.context + horizon]
        # Each a beginning: what a step takes on is no evidence, and these are true.
        ends = range(self.context, self.context + horizon)
        longest = self.true.shape[1] if longest is None else longest
        contexts = [self.true[:, max(end - longest, 0) : end] for end in ends]
        predicted = [forecaster.begin(c, self.heights, 0).mean() for c in contexts]
        return rollout.accumulated_error(np.stack(predicted, axis=1), futures)


def diagnose(
    model: SpacingMDN,
    windows: Windows,
    p: params.Diagnose,
    context: int,
    cache: SolutionCache | None = None,
) -> tuple[Json, dict[str, pd.DataFrame]]:
    """All diagnostics of one model on one split.

    Parameters
    ----------
    model : SpacingMDN
        Any variant. Without memory what is about slots is null, with the reason.
    windows : Windows
        Of the split, in the order of height; rollouts start from its spacings as one record.
    context : spacings a rollout starts from
    cache : what is solved already, for a model that starts from solutions

    Returns
    -------
    report : dict
        `windows`, `targets`, `nll`, `mae`; `items` A to K and `phenomena`, each a value beside its
        target; `memory`: mem_entropy, eff% and its label, rollout_effect, NLL of IDs alone and of
        content alone; `heads`, `masking`, `probe`: what says most of each table. JSON as it is.
    tables : dict of DataFrame
        slots, heads, probe, ablation, masking, similarity: one CSV each.

    Raises
    ------
    ZetaError
        If the split is shorter than a rollout.
    """
    model.eval()
    cache = SolutionCache() if cache is None else cache
    targets = Targets.of(windows, p.windows, p.positions, solver_of(model, cache))
    base = forecast(model, targets)
    error = np.abs(base.mean() - targets.y)
    record = Record.of(windows, p.trajectories, context, max(p.horizon, FOCUS_STEPS))
    forecaster = interventions.forecaster(model, cache)
    free = record.free(forecaster, max(p.horizon, FOCUS_STEPS))
    forced = record.forced(forecaster, FOCUS_STEPS, model.context)
    seen = attend(model, targets)
    masking = masked_nll(model, targets)

    layers, heads = model.config.layers, model.config.heads
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    cut = effects(model, targets, base, [Intervention(heads_off=(place,)) for place in places])
    head_table = pd.DataFrame(places, columns=["layer", "head"]).assign(
        dnll=cut.nll, distance=seen.distance.ravel(), entropy=seen.entropy.ravel()
    )
    memory = _memory(model, targets, base, record, free[FOCUS_STEPS - 1], seen, p, cache)

    heads_centre = float(seen.distance.std())
    items = {
        "G": item("G", slots.drift_exponent(free[: p.horizon])),
        "H": item("H", block_variation(error)),
        "I": item("I", heads_centre, of="heads")
        if seen.centre is None
        else item("I", float(seen.centre.std()), of="slots", heads=heads_centre),
    } | memory.items
    ratio = free[FOCUS_STEPS - 1] / forced[FOCUS_STEPS - 1]
    phenomena = {"train_vs_rollout": phenomenon("train_vs_rollout", float(ratio))}
    phenomena |= memory.phenomena
    whole = mean_nll(base, targets.y)
    harmless = masking.share[(masking.nll <= whole + HARMLESS).cummin()]
    report: Json = {
        "windows": len(targets.y),
        "targets": targets.y.size,
        "nll": whole,
        "mae": float(error.mean()),
        "items": {letter: items[letter] for letter in ITEMS},
        "memory": memory.summary,
        "phenomena": {name: phenomena[name] for name in PHENOMENA},
        "heads": {
            "largest_dnll": float(cut.nll.max()),
            "share_of_largest": slots.largest_share(np.abs(cut.nll)),
        },
        "masking": {"harmless_share": float(harmless.max())},
        "probe": memory.probe,
    }
    names = [f"head {layer}.{head}" for layer, head in places]
    tables = {
        "slots": memory.table,
        "heads": head_table,
        "probe": memory.roles,
        "ablation": pd.concat(
            [
                pd.DataFrame({"part": names, "kind": "head", "dnll": cut.nll}),
                pd.DataFrame({"part": memory.names, "kind": "slot", "dnll": memory.table.dnll}),
            ],
            ignore_index=True,
        ),
        "masking": masking,
        "similarity": pd.concat(
            [_pairs("effects of heads", names, cut.mean), *memory.similarity], ignore_index=True
        ),
    }
    return report, tables


def _pairs(of: str, names: Sequence[str], vectors: Floats) -> pd.DataFrame:
    """Cosine similarity of each two of the vectors (parts, ...), as rows."""
    matrix = slots.cosine(vectors.reshape(len(vectors), -1))
    first, second = np.repeat(names, len(names)), np.tile(names, len(names))
    return pd.DataFrame({"of": of, "a": first, "b": second, "cosine": matrix.ravel()})


@dataclass(frozen=True)
class _Memory:
    """What is said about slots: everything null without memory."""

    items: Json
    phenomena: Json
    summary: Json
    probe: Json
    table: pd.DataFrame
    roles: pd.DataFrame
    similarity: list[pd.DataFrame]
    names: list[str]


SLOT_COLUMNS = ["slot", "dnll", "variation", "eff_percent", "label", "norm", "readout", "centre"]
SLOT_COLUMNS += ["rollout_effect_percent", "holds_focus"]
PROBE_COLUMNS = ["slot", "invariant", "r2", "null95"]
BLANK = ["centre"]  # where slots see no data it is undefined


def _without_memory() -> _Memory:
    letters = (letter for letter in ITEMS if letter not in "GHI")
    names = (name for name in PHENOMENA if name != "train_vs_rollout")
    summary: Json = dict.fromkeys(SUMMARY)
    return _Memory(
        {letter: item(letter, None, NO_MEMORY) for letter in letters},
        {name: phenomenon(name, None, NO_MEMORY) for name in names},
        summary | {"reason": NO_MEMORY},
        dict.fromkeys(PROBE) | {"reason": NO_MEMORY},
        pd.DataFrame(columns=SLOT_COLUMNS),
        pd.DataFrame(columns=PROBE_COLUMNS),
        [],
        [],
    )


def _memory(
    model: SpacingMDN,
    targets: Targets,
    base: Mixture,
    record: Record,
    err10: float,
    seen: Attention,
    p: params.Diagnose,
    cache: SolutionCache,
) -> _Memory:
    """All that is said about slots."""
    if model.memory is None or seen.slots is None:
        return _without_memory()
    count = model.memory_config.slots
    each = range(count)
    names = [f"slot {i}" for i in each]
    off = [Intervention(slots_off=(i,)) for i in each]
    single = effects(model, targets, base, off)
    mae = float(np.abs(base.mean() - targets.y).mean())
    eff = 100 * np.abs(single.mean).mean((1, 2)) / mae
    changed = [interventions.forecaster(model, cache, intervene=change) for change in off]
    without = [record.free(each, FOCUS_STEPS)[-1] for each in changed]
    lost = 100 * (np.array(without) / err10 - 1)
    alone = [Intervention(only="ids"), Intervention(only="content")]
    ids, content = effects(model, targets, base, alone).nll
    fed = model.memory.slots(Intervention()).detach().double().numpy()
    norm = np.linalg.norm(fed, axis=1)
    pooling = model.memory.pooling
    readout = seen.slots if pooling is None else pooling.detach().double().softmax(0).numpy()
    gradients = slot_gradients(model, targets)
    rms = np.sqrt((single.mean**2).mean((1, 2)))
    table = pd.DataFrame(
        {
            "slot": list(each),
            "dnll": single.nll,
            "variation": [block_variation(np.abs(change)) for change in single.mean],
            "eff_percent": eff,
            "label": [slots.label(percent) for percent in eff],
            "norm": norm,
            "readout": readout,
            "centre": np.nan if seen.centre is None else seen.centre,
            "rollout_effect_percent": lost,
            "holds_focus": lost > FOCUS,
        }
    )[SLOT_COLUMNS]
    items = {
        "A": item("A", float(single.nll.max()), mean=float(single.nll.mean())),
        "D": item("D", float(readout.max() * count)),
        "E": item("E", float(slots.entropy(np.abs(single.nll)))),
        "F": item("F", float(norm.mean()), least=float(norm.min()), largest=float(norm.max())),
        "J": _permutation(model, targets, base),
        "K": item("K", slots.effective_rank(gradients) / count),
    }
    phenomena = {"slot_effect_norm": phenomenon("slot_effect_norm", slots.largest_share(rms))}
    if count == 1:
        items |= {letter: item(letter, None, ONE_SLOT) for letter in "BC"}
        for name in ("symmetry", "co_adaptation", "gradient_correlation"):
            phenomena[name] = phenomenon(name, None, ONE_SLOT)
    else:
        cosines = slots.off_diagonal(slots.cosine(fed))
        correlations = slots.off_diagonal(slots.correlation(gradients))
        items["B"] = item("B", float(cosines.mean()), largest=float(cosines.max()))
        items["C"] = item("C", float(correlations.mean()), largest=float(correlations.max()))
        pairs = [(i, (i + 1) % count) for i in each]
        both = effects(model, targets, base, [Intervention(slots_off=pair) for pair in pairs])
        alike = slots.off_diagonal(slots.cosine(single.mean.reshape(count, -1)))
        together = slots.interaction(single.nll, pairs, both.nll)
        phenomena["symmetry"] = phenomenon("symmetry", float(alike.mean()))
        phenomena["co_adaptation"] = phenomenon("co_adaptation", together)
        phenomena["gradient_correlation"] = phenomenon(
            "gradient_correlation", float(correlations.mean())
        )
    if model.memory_config.kind == "postfix":
        reason = "forecasts are made from memory alone"
        phenomena["shortcut"] = phenomenon("shortcut", None, reason)
    else:
        nothing = effects(model, targets, base, [Intervention(slots_off=tuple(each))])
        phenomena["shortcut"] = phenomenon("shortcut", float(nothing.nll[0]))
    whole = mean_nll(base, targets.y)
    summary = {
        "mem_entropy": seen.spread,
        "eff_percent": float(eff.max()),
        "label": slots.label(float(eff.max())),
        "rollout_effect_percent": float(lost.max()),
        "slots_with_focus": int((lost > FOCUS).sum()),
        "id_only_nll": whole + float(ids),
        "content_only_nll": whole + float(content),
        "content_only_growth": slots.growth(float(content)),
        "reason": None,
    }
    probe, roles = _roles(model, targets, single.mean, p)
    similarity = [_pairs("slots", names, fed), _pairs("effects of slots", names, single.mean)]
    return _Memory(items, phenomena, summary, probe, table, roles, similarity, names)


SUMMARY = ["mem_entropy", "eff_percent", "label", "rollout_effect_percent", "slots_with_focus"]
SUMMARY += ["id_only_nll", "content_only_nll", "content_only_growth"]
PROBE = ["features", "best_r2", "null95", "slots_with_role"]


def _permutation(model: SpacingMDN, targets: Targets, base: Mixture) -> Json:
    """J: the IDs handed round by 1 ... M - 1 places."""
    count, memory = model.memory_config.slots, model.memory_config
    if count == 1:
        return item("J", None, ONE_SLOT)
    if memory.ids == "off" or memory.content == "zeroed":
        return item("J", None, "slots have no IDs and contents to pair anew")
    turns = [tuple(int(i) for i in np.roll(np.arange(count), k)) for k in range(1, count)]
    turned = effects(model, targets, base, [Intervention(permute=turn) for turn in turns])
    return item(
        "J", slots.growth(float(turned.nll.mean())), largest=slots.growth(float(turned.nll.max()))
    )


@torch.no_grad()
def _roles(
    model: SpacingMDN, targets: Targets, effect: Floats, p: params.Diagnose
) -> tuple[Json, pd.DataFrame]:
    """Which of Q3's invariants of a window each slot tells, with a permutation null.

    Read from the slot's final state after the window where slots see data, else from its effects
    (M, B, P). A slot has a role when its best R2 is above the 95 % quantile, over permutations of
    the windows, of the largest R2 of all slots and invariants.
    """
    if len(targets.y) < 2 * FOLDS:
        reason = f"{len(targets.y)} windows are too few to hold some out"
        return dict.fromkeys(PROBE) | {"reason": reason}, pd.DataFrame(columns=PROBE_COLUMNS)
    wanted = losses.q3_invariants(targets.spacing).double().numpy()
    if sees_data(model):
        states = []
        for inputs, _ in targets.batches():
            trace = Trace(probabilities=False)
            model(*inputs, at=targets.at, trace=trace)
            assert trace.memory is not None
            states.append(trace.memory.double())
        features = list(torch.cat(states).transpose(0, 1).numpy())
    else:
        features = [stretch_means(e) for e in effect]
    # The same permutations for every slot, so that the largest R2 of a permutation means something.
    found = [
        slots.probe(f, wanted, p.permutations, np.random.default_rng(p.seed), FOLDS)
        for f in features
    ]
    r2, null = np.array([r for r, _ in found]), np.array([n for _, n in found])
    bound = float(np.quantile(null.max((0, 2)), 0.95))
    rows = [(i, f"M{k}", r2[i, k], bound) for i in range(len(r2)) for k in range(r2.shape[1])]
    summary = {
        "features": "memory states" if sees_data(model) else "slot effects",
        "best_r2": float(r2.max()),
        "null95": bound,
        "slots_with_role": int((r2.max(1) > bound).sum()),
        "reason": None,
    }
    return summary, pd.DataFrame(rows, columns=PROBE_COLUMNS)


def e4_verdict(reports: Sequence[Json]) -> Json:
    """E4's pass rule (docs/reference.md, 1.4) over reports of one variant with several seeds.

    The largest ablation dNLL is at least 0.02 on two of three seeds; over seeds, the mean
    correlation of slot gradients is at most 0.6, NLL(IDs alone) - NLL at least 0.02, and exp(NLL)
    of content alone at most 30 % above that of the model.

    Raises
    ------
    ValueError
        If a report is of a model without the memory these are about.
    """
    ablation = [r["items"]["A"]["value"] for r in reports]
    correlation = [r["items"]["C"]["value"] for r in reports]
    ids = [r["memory"]["id_only_nll"] for r in reports]
    content = [r["memory"]["content_only_growth"] for r in reports]
    if not reports or any(v is None for v in (*ablation, *correlation, *ids, *content)):
        raise ValueError("E4's rule is about models with at least two memory slots")
    detox = [i - r["nll"] for i, r in zip(ids, reports, strict=True)]
    parts = {
        "seeds_with_effect": sum(a >= 0.02 for a in ablation),
        "gradient_correlation": float(np.mean(correlation)),
        "id_only_dnll": float(np.mean(detox)),
        "content_only_growth": float(np.mean(content)),
    }
    passes = {
        "seeds_with_effect": 3 * parts["seeds_with_effect"] >= 2 * len(reports),
        "gradient_correlation": parts["gradient_correlation"] <= 0.6,
        "id_only_dnll": parts["id_only_dnll"] >= 0.02,
        "content_only_growth": parts["content_only_growth"] <= 0.3,
    }
    return {"seeds": len(reports), "values": parts, "passes": passes, "all": all(passes.values())}


def read(path: str | Path) -> Json:
    """A report written by the diagnose stage; ZetaError if the file is none."""
    try:
        report: Json = json.loads(Path(path).read_text())
        missing = {"nll", "items", "memory", "phenomena"} - report.keys()
        if missing:
            raise KeyError(*sorted(missing))
        return report
    except (OSError, ValueError, KeyError, AttributeError) as error:
        problem = f"not a report of diagnostics ({type(error).__name__})"
        raise ZetaError(path, problem, "Run `dvc repro -f diagnose`.") from None


def render(report: Json) -> str:
    """The report as text for a terminal: each value beside its target."""
    lines = [
        f"{report['targets']:,} targets of {report['windows']} windows: "
        f"NLL {report['nll']:.4f}, MAE {report['mae']:.4f}",
        "",
    ]
    for letter, (title, _, _) in ITEMS.items():
        found = report["items"][letter]
        verdict = {True: "pass", False: "FAIL", None: ""}[found["passes"]]
        lines.append(
            f"{letter}  {title:60} {_shown(found):>9} {found['target'] or '':>7}  {verdict}"
        )
    lines += ["", "phenomena"]
    for name, (title, sign, threshold) in PHENOMENA.items():
        found = report["phenomena"][name]
        verdict = {True: "present", False: "absent", None: ""}[found["present"]]
        shown = f"{_shown(found):>9} {sign} {threshold:g}"
        lines.append(f"   {name:20} {title:62} {shown:16}  {verdict}")
    lines.append("")
    for name in ("memory", "probe", "heads", "masking"):
        told = {k: v for k, v in report[name].items() if v is not None and k != "reason"}
        values = ", ".join(f"{k} {_number(v)}" for k, v in told.items())
        lines.append(f"{name:8} {values or report[name]['reason']}")
    return "\n".join(lines)


def _shown(found: Json) -> str:
    return "-" if found["value"] is None else f"{found['value']:.4f}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
