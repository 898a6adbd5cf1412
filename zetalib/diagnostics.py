"""What a trained forecaster is made of: diagnostics A to K of Reference 1.4, heads, weights.

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

from zetalib import losses, params, rollout, slots
from zetalib.errors import ZetaError
from zetalib.forecasts import to_mixture
from zetalib.mixture import Mixture
from zetalib.model import Intervention, SpacingMDN, Trace, nll
from zetalib.rollout import Forecaster
from zetalib.window import Windows, rounded_height

Floats = NDArray[np.float64]
Json = dict[str, Any]

BLOCKS = 8  # consecutive groups of windows, for H
SHARES = tuple(round(0.1 * k, 1) for k in range(10))  # of weights set to zero
FOCUS_STEPS = 10  # of the rollouts behind rollout_effect: Err@10
FOCUS = 5.0  # per cent of Err@10 from which a slot holds focus
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
NO_MEMORY = "the model has no memory"
ONE_SLOT = "one slot has no pair"


@dataclass(frozen=True)
class Targets:
    """What is forecast: `at` (P,) of the inputs `spacing` (B, T) at `height` (B,); truth (B, P)."""

    spacing: Tensor
    height: Tensor
    at: Tensor
    y: Floats

    @staticmethod
    def of(windows: Windows, count: int, positions: int) -> Targets:
        """Evenly spread positions of at most `count` evenly spread windows."""
        chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
        spacing = windows.spacing[chosen]
        length = spacing.shape[1] - 1
        at = torch.linspace(0, length - 1, min(positions, length)).round().long()
        y = spacing[:, 1:][:, at].numpy()
        height = rounded_height(windows.gamma[chosen])
        return Targets(spacing[:, :-1].float(), height, at, y)

    def batches(self, size: int = 16) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Spacing, height and truth (float32) of `size` windows at a time."""
        y = torch.from_numpy(self.y).float()
        return list(
            zip(self.spacing.split(size), self.height.split(size), y.split(size), strict=True)
        )


@torch.no_grad()
def forecast(
    model: Callable[..., Any], targets: Targets, intervene: Intervention | None = None
) -> Mixture:
    """Forecasts of the targets, shape (B, P, K), with parts of the model off or changed."""
    parts = [
        to_mixture(model(spacing, height, at=targets.at, intervene=intervene))
        for spacing, height, _ in targets.batches()
    ]
    return Mixture(*(np.concatenate([getattr(m, f) for m in parts]) for f in ("pi", "mu", "sigma")))


def mean_nll(mixture: Mixture, y: Floats) -> float:
    return float(-mixture.logpdf(y).mean())


def next_spacing(model: SpacingMDN, intervene: Intervention | None = None) -> Forecaster:
    """The model, changed so, as a function of contexts (B, T) and heights (B,)."""

    @torch.no_grad()
    def found(context: Floats, height: Floats) -> Mixture:
        last = torch.tensor([context.shape[1] - 1])
        x, h = torch.from_numpy(context).float(), torch.from_numpy(height)
        log_pi, mu, sigma = model(x, h, at=last, intervene=intervene)
        return to_mixture((log_pi[:, 0], mu[:, 0], sigma[:, 0]))

    return found


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


def slot_gradients(model: SpacingMDN, targets: Targets, size: int = 4) -> Floats:
    """Gradient of the NLL of `size` windows at a time with respect to the slots as fed.

    Returns
    -------
    array, shape (M, groups * width)
    """
    at, y = targets.at, torch.from_numpy(targets.y).float()
    found = []
    for start in range(0, len(y), size):
        part, trace = slice(start, start + size), Trace()
        out = model(targets.spacing[part], targets.height[part], at=at, trace=trace)
        assert trace.slots is not None
        (gradient,) = torch.autograd.grad(nll(out, y[part]).mean(), trace.slots)
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


def diagnose(
    model: SpacingMDN, windows: Windows, p: params.Diagnose, context: int
) -> tuple[Json, dict[str, pd.DataFrame]]:
    """All diagnostics of one model on one split.

    Parameters
    ----------
    model : SpacingMDN
        Any variant. Without memory the items about slots are null, with the reason.
    windows : Windows
        Of the split, in the order of height; rollouts start from its spacings as one record.
    context : spacings a rollout starts from

    Returns
    -------
    report : dict
        `windows`, `targets`, `nll`, `mae`; `items` A to K and `phenomena`, each a value beside its
        target; `memory`: mem_entropy, eff% and its label, rollout_effect, ID-only and content-only
        NLL; `heads`, `masking`, `probe`: the one number that says most. JSON as it is.
    tables : dict of DataFrame
        slots, heads, probe, ablation, masking, similarity: one CSV each.

    Raises
    ------
    ZetaError
        If the split is shorter than a rollout.
    """
    model.eval()
    targets = Targets.of(windows, p.windows, p.positions)
    base = forecast(model, targets)
    error = np.abs(base.mean() - targets.y)
    loss, mae = mean_nll(base, targets.y), float(error.mean())
    config = model.config
    places = [(layer, head) for layer in range(config.layers) for head in range(config.heads)]
    cut = effects(model, targets, base, [Intervention(heads_off=(place,)) for place in places])
    attention = attend(model, targets)
    masking = masked_nll(model, targets)
    runs = Rollouts.of(windows, p.trajectories, context, max(p.horizon, FOCUS_STEPS))
    free = runs.errors(next_spacing(model), max(p.horizon, FOCUS_STEPS))
    items = {
        "G": item("G", slots.drift_exponent(free[: p.horizon])),
        "H": item("H", block_variation(error)),
    }
    forced = runs.forced(next_spacing(model))
    phenomena = {"train_vs_rollout": phenomenon("train_vs_rollout", free[FOCUS_STEPS - 1] / forced)}
    ...
