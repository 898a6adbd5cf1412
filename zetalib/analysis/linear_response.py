"""What operator a trained network is: where it looks, how it answers, what its layers know.

Measured on targets late in their windows, so that three quarters of a window lie behind each:

- attention kernels: mean weight by distance, in index and in height, of each layer and head;
- the linear response J_k = dE[s_next]/ds_{-k}, k = 0 the last spacing, and what it makes of waves:
  one of frequency omega in the density of zeros changes spacing -k by the integral over it of
  exp(i omega tau), tau the height below the last zero, so the forecast by R = sum_k J_k (...),
  and the next spacing by N, that integral over it. The gain G is the regression of R on N over
  targets. It is in height: there primes lie at log p, wherever the density has drifted to;
- what a linear reader finds of the explicit formula's forecast in the states of each layer.

Zeros hold waves at log p and little else. A forecaster that knows them has G = 1 there, whatever it
has elsewhere: the share of a wave it misses, |1 - G|^2, has notches at log p, and its power |G|^2
no peaks (as whitening filters have the inverse of the spectrum).

Forecasts of the inversion (`model.inversion`) are given inputs here: how they themselves answer to
a spacing is no part of the response.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from zetalib.analysis import claims, late_targets, slots
from zetalib.analysis.claims import Claim
from zetalib.baselines import explicit_formula
from zetalib.baselines.autoregression import Rival
from zetalib.data.window import Windows, density, height_offsets
from zetalib.inverse.solutions import Solution, SolutionCache
from zetalib.network.attention import Block
from zetalib.network.memory import Intervention
from zetalib.network.model import Solve, SpacingMDN, Trace, solver_of
from zetalib.network.positions import RESOLUTION, rotate
from zetalib.theory.primes import prime_powers

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]
Json = dict[str, Any]

REACH = 64  # distances of an attention kernel, spacings
CELL = 0.5  # of one in height
BATCH = 16  # windows
TOP = 3.9  # radians a unit of height: primes up to 47
GRID = 0.01  # of frequencies
BESIDE = 0.4  # the smooth spectrum is a median over frequencies so near
SHORT = 8  # lags in which random matrices answer too, left as they are by the null
DRAWS = 9999
PERMUTATIONS = 99
SCORED = 64  # positions, the last of a window, whose attention scores are compared both ways


@dataclass(frozen=True)
class Targets(late_targets.Targets):
    """Late targets with the solution of the inverse problem, (W, T), for a model that starts so."""

    solution: Solution | None

    @staticmethod
    def solved(windows: Windows, count: int, solve: Solve) -> Targets:
        """Of at most `count` evenly spread windows; `solve` as the model needs it."""
        plain = late_targets.Targets.of(windows, count)
        solution = solve(plain.spacing, plain.height)
        return Targets(plain.spacing, plain.height, plain.at, plain.y, solution)

    def batches(self) -> list[tuple[Tensor, Tensor, Solution | None]]:
        """Spacing, height and solution of some windows at a time."""
        found = []
        for i in range(0, len(self.spacing), BATCH):
            part = slice(i, i + BATCH)
            solution = None if self.solution is None else self.solution.at(part)
            found.append((self.spacing[part], self.height[part], solution))
        return found


def mean_of(
    model: SpacingMDN,
    spacing: Tensor,
    height: Tensor,
    solution: Solution | None,
    at: NDArray[np.int64],
    intervene: Intervention | None = None,
) -> Tensor:
    """Means of the forecasts after positions `at`, (B, P)."""
    log_pi, mu, _ = model(spacing, height, solution, at=torch.from_numpy(at), intervene=intervene)
    mean: Tensor = (log_pi.exp() * mu).sum(-1)
    return mean


def response(model: SpacingMDN, targets: Targets, intervene: Intervention | None = None) -> Floats:
    """J_k of each target, (W, P, K), 0 where its window has no spacing -k."""
    place, there = targets.lags()
    found = []
    for spacing, height, solution in targets.batches():
        x = spacing.to(model.takes).requires_grad_()
        mean = mean_of(model, x, height, solution, targets.at, intervene)
        rows = []
        for p in range(len(place)):
            (slope,) = torch.autograd.grad(mean[:, p].sum(), x, retain_graph=True)
            rows.append(slope.double().numpy()[:, place[p]] * there[p])
        found.append(np.stack(rows, 1))
    return np.concatenate(found)


@torch.no_grad()
def hidden(model: SpacingMDN, targets: Targets) -> Floats:
    """States of the targets' tokens after each block, (layers, W, P, width)."""
    parts = []
    for spacing, height, solution in targets.batches():
        trace = Trace(probabilities=False)
        model(spacing.to(model.takes), height, solution, trace=trace)
        parts.append(torch.stack([state[:, targets.at] for state in trace.hidden]))
    return np.asarray(torch.cat(parts, 1).double().numpy())


def _over(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard error over windows, the first axis."""
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


@torch.no_grad()
def attention_kernels(model: SpacingMDN, targets: Targets) -> pd.DataFrame:
    """Mean weight of a spacing by its distance from the query; slots' share is left out.

    Returns
    -------
    DataFrame
        layer, head, axis (index: spacings; height), distance, weight, error (over windows).
    """
    reach = min(REACH, targets.known)
    lags = targets.at[:, None] - np.arange(reach)  # (P, reach)
    by_index, by_height = [], []
    rho = float(density(targets.height).mean())
    cells = int(reach / rho / CELL * 0.9)  # few targets have fewer neighbours within
    for spacing, height, solution in targets.batches():
        trace = Trace()
        model(spacing.to(model.takes), height, solution, trace=trace)
        weight = torch.stack(trace.attention, 1)[..., -spacing.shape[1] :, -spacing.shape[1] :]
        weight = weight / weight.sum(-1, keepdim=True)
        rows = weight[..., targets.at, :].double().numpy()  # (B, layers, heads, P, T)
        near = np.take_along_axis(rows, np.broadcast_to(lags, (*rows.shape[:3], *lags.shape)), -1)
        by_index.append(near.mean(3))
        tau = height_offsets(spacing, height).numpy()
        for window, near_one in zip(tau, near, strict=True):
            cell = ((window[targets.at][:, None] - window[lags]) / CELL).astype(int)
            member = (cell[..., None] == np.arange(cells)).reshape(-1, cells).astype(np.float64)
            flat = near_one.reshape(*near_one.shape[:2], -1)
            by_height.append(flat @ member / np.maximum(member.sum(0), 1))
    found = []
    for axis, values, distance in (
        ("index", np.concatenate(by_index), np.arange(reach, dtype=np.float64)),
        ("height", np.stack(by_height), (np.arange(cells) + 0.5) * CELL),
    ):
        mean, error = _over(values)
        for (layer, head), _ in np.ndenumerate(mean[..., 0]):
            columns = {"layer": layer, "head": head, "axis": axis, "distance": distance}
            columns |= {"weight": mean[layer, head], "error": error[layer, head]}
            found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


@torch.no_grad()
def attention_scores(model: SpacingMDN, targets: Targets) -> Floats:
    """q_i . k_j before mask and softmax among the last positions, (layers heads, n, n).

    Means over windows: of what causal attention shows, one half.
    """
    rows: list[Tensor] = []

    def watch(attention: Any, inputs: tuple[Any, ...]) -> None:
        x, mixing, cache = inputs
        if cache is not None and cache.length:  # slots after a position
            return
        qkv = attention.qkv(x).view(*x.shape[:2], 3, attention.heads, -1)[:, :, :2]
        if mixing.rotation is not None:
            qkv = rotate(qkv, mixing.rotation)
        q, k = F.rms_norm(qkv, qkv.shape[-1:])[:, -SCORED:].unbind(2)
        rows.append(torch.einsum("bihd,bjhd->hij", q, k).double())

    blocks = cast(list[Block], list(model.blocks))
    hooks = [block.attention.register_forward_pre_hook(watch) for block in blocks]
    for spacing, height, solution in targets.batches():
        model(spacing.to(model.takes), height, solution)
    for hook in hooks:
        hook.remove()
    whole = torch.stack(rows).reshape(-1, len(hooks), *rows[0].shape).sum(0)
    return np.asarray((whole / len(targets.spacing)).flatten(0, 1).numpy())


# What the response makes of waves


def frequencies() -> Floats:
    """An even grid and the logs of all primes that could be tested."""
    logs = np.log(prime_powers(math.ceil(math.exp(TOP)))[0])
    return np.union1d(np.arange(GRID, TOP + BESIDE, GRID), logs)


def waves(response: Floats, targets: Targets, frequency: Floats) -> tuple[Complexes, Complexes]:
    """Contributions of the lags to the gain, (K, F), and gains of single windows, (W, F).

    The gain of all, sum_k of the first, is the mean of the second (equally many targets each and
    the power of N taken over all).
    """
    place, there = targets.lags()
    rho = density(targets.height).numpy()
    parts = np.zeros((response.shape[2], len(frequency)), np.complex128)
    single, power = [], np.zeros(len(frequency))
    for values, spacing, y, r in zip(
        response, targets.spacing.numpy(), targets.y, rho, strict=True
    ):
        gap = spacing[place] / r * there
        behind = _integral(gap, gap.cumsum(1) - gap / 2, frequency)
        ahead = _integral(y / r, -y / (2 * r), frequency)
        own = np.einsum("pf,pk,pkf->kf", ahead.conj(), values, behind)
        parts += own
        single.append(own.sum(0))
        power += np.square(np.abs(ahead)).sum(0)
    gains = np.stack(single) * (len(single) / power)
    return parts / power, np.asarray(gains, np.complex128)


def _integral(gap: Floats, middle: Floats, frequency: Floats) -> Complexes:
    """Of exp(i omega tau) over intervals, with one more axis for the frequency."""
    gap, middle = gap[..., None], middle[..., None]
    phase = np.exp(1j * middle * frequency)
    return np.asarray(gap * np.sinc(gap * frequency / (2 * np.pi)) * phase)


def resolved_primes(reach: float) -> Floats:
    """Primes from 2 on that a response over `reach` of height tells from their neighbours."""
    q, mangoldt = prime_powers(math.ceil(2 * math.exp(TOP)))
    primes = q[np.log(q) == mangoldt]
    apart = np.diff(np.log(primes)) > 2 * np.pi / reach
    lone = np.append(True, apart[:-1]) & apart & (np.log(primes[:-1]) < TOP)
    return np.asarray(primes[:-1][np.logical_and.accumulate(lone)])


def over_smooth(spectrum: Floats, frequency: Floats, at: Floats) -> Floats:
    """A spectrum (..., F) at frequencies `at` (m,) over its median around each: (..., m)."""
    columns = []
    for omega in at:
        beside = np.abs(frequency - omega) <= BESIDE
        here = spectrum[..., np.searchsorted(frequency, omega)]
        columns.append(here / np.median(spectrum[..., beside], -1))
    return np.stack(columns, -1)


def prime_lines(
    parts: Complexes, frequency: Floats, primes: Floats, seed: int, draws: int = DRAWS
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Has the power |G|^2 peaks, and the missed share |1 - G|^2 notches, at log p?

    Both are held over the smooth spectrum beside log p. The null keeps what each lag says and the
    first `SHORT` lags whole, but turns the signs of the others at random: it knows no frequency.

    Parameters
    ----------
    parts : shape (K, F), :func:`waves`
    frequency : shape (F,), the log primes among them

    Returns
    -------
    DataFrame, a row for each prime
        prime, frequency, gain (real part), missed, peak and notch (ratios to the smooth spectrum),
        with peak_p, notch_p and, by Holm over the primes, peak_adjusted, notch_adjusted.
    p : of all primes together, for `peak` and for `notch`
        By the mean of the logs of the ratios.
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (draws, len(parts)))
    signs[:, :SHORT] = 1
    gain = parts.sum(0)
    drawn = signs @ parts.real + 1j * (signs @ parts.imag)
    at = np.log(primes)
    index = np.searchsorted(frequency, at)
    columns: dict[str, Any] = {"prime": primes.astype(int), "frequency": at}
    columns |= {"gain": gain.real[index], "missed": np.square(np.abs(1 - gain[index]))}
    together = {}
    for name, sign, centre in (("peak", 1, 0.0), ("notch", -1, 1.0)):
        found = over_smooth(np.square(np.abs(gain - centre)), frequency, at)
        null = over_smooth(np.square(np.abs(drawn - centre)), frequency, at)
        p = ((sign * null >= sign * found).sum(0) + 1) / (draws + 1)
        columns |= {name: found, f"{name}_p": p, f"{name}_adjusted": claims.holm(p.tolist())}
        as_far = sign * np.log(null).mean(1) >= sign * np.log(found).mean()
        together[name] = float((as_far.sum() + 1) / (draws + 1))
    return pd.DataFrame(columns), together


# Forms of kernels

# Of distance d and scale r: terms whose coefficients are found by least squares.
FORMS: dict[str, Callable[[Floats, float], list[Floats]]] = {
    "sine kernel": lambda d, r: [np.sinc(d / r) ** 2, np.ones_like(d)],
    "exponential": lambda d, r: [np.exp(-d / r), np.ones_like(d)],
    "stretched": lambda d, r: [np.exp(-r * d**0.5), d * np.exp(-r * d**0.5), np.ones_like(d)],
}
# At whole distances a sine kernel of scale r < 2 is one of a larger scale.
SCALES = {"sine kernel": (2.0, 30.0), "exponential": (0.1, 60.0), "stretched": (0.05, 5.0)}
PUBLISHED = {"sine kernel": (1.0,), "exponential": (5.0, 10.0, 20.0), "stretched": (1.16,)}


def fits(distance: Floats, value: Floats) -> pd.DataFrame:
    """Least squares of each of `FORMS` to a kernel (m,), at its best scale and at those published.

    Returns
    -------
    DataFrame
        form, scale, free (whether it was fitted), r2, aic (m log(mean square) + 2 parameters; that
        of errors that are alike and independent), coefficients (of the form's terms).
    """
    rows = []
    for form, terms in FORMS.items():

        def fitted(scale: float, terms: Any = terms) -> tuple[Floats, float]:
            design = np.stack(terms(distance, scale), 1)
            found = np.linalg.lstsq(design, value)[0]
            return found, float(np.square(value - design @ found).mean())

        grid = np.geomspace(*SCALES[form], 60)
        best = int(np.argmin([fitted(scale)[1] for scale in grid]))
        around = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
        free = minimize_scalar(lambda r, f=fitted: f(r)[1], bounds=around, method="bounded").x
        for scale in (float(free), *PUBLISHED[form]):
            coefficients, square = fitted(scale)
            parameters = len(coefficients) + (scale == free)
            rows.append(
                {
                    "form": form,
                    "scale": scale,
                    "free": scale == free,
                    "r2": 1 - square / float(value.var()),
                    "aic": len(value) * math.log(max(square, 1e-300)) + 2 * parameters,
                    "coefficients": coefficients.tolist(),
                }
            )
    return pd.DataFrame(rows)


# Beside the explicit formula


def correlation(one: Floats, other: Floats, given: tuple[Floats, ...] = ()) -> Json:
    """Correlation of (W, P) with (W, P), what is linear in `given` taken out of both.

    With its standard error by the jackknife over windows.
    """

    def of(kept: NDArray[np.bool_]) -> float:
        design = np.stack([np.ones(one[kept].size), *(g[kept].ravel() for g in given)], 1)
        both = np.stack([one[kept].ravel(), other[kept].ravel()], 1)
        rest = both - design @ np.linalg.lstsq(design, both)[0]
        return float(np.corrcoef(rest[:, 0], rest[:, 1])[0, 1])

    windows = np.arange(len(one))
    left = np.array([of(windows != w) for w in windows])
    spread = math.sqrt((len(left) - 1) * float(left.var()))
    return {"value": of(np.full(len(one), True)), "se": spread}


def layers_know(states: Floats, inputs: Floats, target: Floats, seed: int) -> list[Json]:
    """R2 of ridge readers of `target` (W, P), fitted on half of the windows, scored on the other.

    Parameters
    ----------
    states : shape (layers, W, P, width)
    inputs : shape (W, P, m)
        What a reader of plain spacings reads.

    Returns
    -------
    list
        of (inputs, layer 1 ...), r2, p: share of random orders of the targets that do as well.
    """
    rng, y, rows = np.random.default_rng(seed), target.reshape(-1, 1), []
    names = ["inputs", *(f"layer {i + 1}" for i in range(len(states)))]
    for name, x in zip(names, [inputs, *states], strict=True):
        r2, null = slots.probe(x.reshape(len(y), -1), y, PERMUTATIONS, rng, 2)
        p = float(((null >= r2).sum() + 1) / (len(null) + 1))
        rows.append({"of": name, "r2": float(r2[0]), "p": p})
    return rows


# Claims


def slot_frequencies(model: SpacingMDN, targets: Targets) -> Floats:
    """Where the answer of each memory slot to waves stands out most, (M,).

    That answer is the response less the response with the slot off; its power is held over the
    smooth spectrum, between log 2 and the last log prime that such targets resolve.
    """
    frequency = frequencies()
    low, high = np.log(resolved_primes(targets.reach)[[0, -1]])
    inside = frequency[(frequency >= low) & (frequency <= high)]
    whole, found = response(model, targets), []
    for slot in range(model.memory_config.slots):
        own = whole - response(model, targets, Intervention(slots_off=(slot,)))
        power = np.square(np.abs(waves(own, targets, frequency)[0].sum(0)))
        found.append(inside[over_smooth(power, frequency, inside).argmax()])
    return np.array(found)


def network_claims(
    model: SpacingMDN, targets: Targets, kernels: pd.DataFrame, seed: int
) -> list[Claim]:
    """What is claimed of networks, not settled yet; `kernels` as :func:`attention_kernels`."""
    frequency, within, primes = np.empty(0), RESOLUTION, model.config.primes
    if model.rotary is not None and model.config.frequencies == "learnable_random":
        frequency = model.rotary.frequencies()[model.rotary.of_primes].detach().numpy()
    elif model.memory is not None and len(resolved_primes(targets.reach)) > 1:
        frequency, within = slot_frequencies(model, targets), np.pi / targets.reach
        primes = len(resolved_primes(targets.reach))
    own = kernels[kernels.axis == "index"]
    kernel = own.groupby("distance").weight.mean().to_numpy()
    return [
        claims.slots_and_primes(frequency, within, seed, primes),
        claims.hermitian(attention_scores(model, targets), seed),
        claims.toeplitz(kernel),
    ]


# All of it


def extract(
    model: SpacingMDN,
    windows: Windows,
    ar: Rival,
    count: int,
    seed: int,
    cache: SolutionCache | None = None,
    formula: Floats | None = None,
) -> tuple[Json, dict[str, pd.DataFrame], list[Claim]]:
    """What operator `model` is, on `count` of the windows.

    Parameters
    ----------
    ar : least squares, for partial correlations
    seed : of the nulls
    cache : what is solved already, for a model that starts from solutions
    formula : :func:`zetalib.analysis.late_targets.explicit_means`, where they are known already

    Returns
    -------
    report : dict
        JSON as it is: `windows`, `known`, `attention` and `response` (fits), `lines`, `layers`,
        `correlations`. Null where there is nothing to say, with a reason.
    tables : dict of DataFrame
        attention, response, gain.
    claims : list
        Of :func:`network_claims`.
    """
    targets = Targets.solved(windows, count, solver_of(model, cache))
    slope = response(model, targets)
    value, error = _over(slope.mean(1)[:, : targets.known])
    lag = np.arange(1.0, targets.known + 1)
    frequency = frequencies()
    parts, single = waves(slope, targets, frequency)
    kernels = attention_kernels(model, targets)
    report = {
        "windows": len(targets.spacing),
        "targets": targets.y.size,
        "known": targets.known,
        "inversion": "its forecasts are given inputs" if model.config.inversion else None,
        "attention": _kernel_fits(kernels, float(density(targets.height).mean())),
        "response": _best(fits(lag[:REACH], value[:REACH])),
        "lines": _lines(parts, targets, frequency, seed),
        **_beside_explicit(model, targets, windows, ar, seed, formula),
    }
    answers = pd.DataFrame({"lag": lag, "response": value, "error": error})
    tables = {"attention": kernels, "response": answers, "gain": _gains(single, frequency)}
    return report, tables, network_claims(model, targets, kernels, seed)


def _best(found: pd.DataFrame) -> Json:
    """The fits, the best of those with a free scale named first."""
    free = found[found.free]
    rows: list[Json] = found.to_dict("records")  # type: ignore[assignment]
    return {"best": str(free.sort_values("aic").form.iloc[0]), "fits": rows}


def _kernel_fits(kernels: pd.DataFrame, rho: float) -> Json:
    """Fits to the mean over heads by index and by height (in mean spacings), and head by head.

    A token's own weight, distance 0, is no part of a kernel.
    """
    found: Json = {}
    for axis, scale in (("index", 1.0), ("height", rho)):
        part = kernels[(kernels.axis == axis) & (kernels.distance >= CELL)]
        mean = part.groupby("distance").weight.mean()
        found[axis] = _best(fits(mean.index.to_numpy() * scale, mean.to_numpy()))
    own = kernels[(kernels.axis == "index") & (kernels.distance > 0)]
    heads = []
    for (layer, head), part in own.groupby(["layer", "head"]):
        each = fits(part.distance.to_numpy(), part.weight.to_numpy())
        best = each[each.free].sort_values("aic").iloc[0]
        row = {
            "layer": layer,
            "head": head,
            "best": best.form,
            "r2": best.r2,
            "scale": best["scale"],
        }
        heads.append(row)
    return {**found, "heads": heads}


def _lines(parts: Complexes, targets: Targets, frequency: Floats, seed: int) -> Json:
    primes = resolved_primes(targets.reach)
    if not len(primes):
        reason = f"{targets.reach:.3g} of height tell no primes apart"
        return {"primes": None, "peak_p": None, "notch_p": None, "reason": reason}
    rows, together = prime_lines(parts, frequency, primes, seed)
    found = {f"{name}_p": p for name, p in together.items()}
    return {"primes": rows.to_dict("records"), **found, "reason": None}


def _gains(single: Complexes, frequency: Floats) -> pd.DataFrame:
    """Columns frequency, gain (real part), power, missed and, by the jackknife, their errors."""
    whole = single.mean(0)
    left = (single.sum(0) - single) / (len(single) - 1)
    columns = {"frequency": frequency}
    for name, of in (
        ("gain", np.real),
        ("power", lambda g: np.square(np.abs(g))),
        ("missed", lambda g: np.square(np.abs(1 - g))),
    ):
        columns[name] = of(whole)
        columns[f"{name}_error"] = np.sqrt((len(left) - 1) * of(left).var(0))
    return pd.DataFrame(columns)


def _beside_explicit(
    model: SpacingMDN,
    targets: Targets,
    windows: Windows,
    ar: Rival,
    seed: int,
    formula: Floats | None,
) -> Json:
    with torch.no_grad():
        parts = [
            mean_of(model, x.to(model.takes), h, solution, targets.at)
            for x, h, solution in targets.batches()
        ]
    own = torch.cat(parts).double().numpy()
    chosen = np.linspace(0, len(windows) - 1, len(own)).round().astype(int)
    linear = np.concatenate([ar(windows[w : w + 1]).mean() for w in chosen.tolist()])
    linear = np.asarray(linear).reshape(len(own), -1)[:, targets.at]
    others = {
        "explicit formula": late_targets.explicit_means(targets) if formula is None else formula
    }
    if targets.solution is not None:
        others["inversion"] = targets.solution.fine[:, targets.at].double().numpy()
    compared = {
        name: None
        if other is None
        else {
            "plain": correlation(own, other),
            "given AR": correlation(own, other, (linear,)),
            "of errors": correlation(own - targets.y, other - targets.y),
            "given AR and truth": correlation(own, other, (linear, targets.y)),
        }
        for name, other in others.items()
    }
    formula = others["explicit formula"]
    reason = (
        None if formula is not None else f"it is for heights from {explicit_formula.LOWEST:g} on"
    )
    layers = None
    if formula is not None:
        back = targets.at[:, None] - np.arange(min(REACH, targets.known))
        inputs = targets.spacing.numpy()[:, back]
        layers = layers_know(hidden(model, targets), inputs, formula, seed)
    return {"layers": layers, "correlations": compared, "reason": reason}
