"""What training minimises: the NLL, the entropy term and the losses of the memory experiments.

    loss = NLL - entropy_reg H(pi) + sum_i weight_i(step) loss_i

with the ramps and weights of docs/reference.md, 1.2. Where a loss needs the spread of something
over windows (statistics, roles), it is the spread over the batch. Losses may look at a whole
window, for they are no input of any forecast.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zetalib import params
from zetalib.data.window import running_sum
from zetalib.network.memory import training_draw
from zetalib.network.model import Solve, SpacingMDN, Trace, nll, weight_entropy
from zetalib.network.solution_density import Forecast

BINS, RANGE = 16, 4.0  # of the histogram of M1: 16 bins from 0 to 4 mean spacings

_OF_ATTENTION = ("attention_entropy", "mass_cap", "roles")


def weight(ramp: float | list[list[float]], step: int) -> float:
    """A weight, or the ramp [[step, weight], ...] at `step`: linear between, constant outside.

    Where two knots share a step the later one counts from there on.
    """
    if not isinstance(ramp, list):
        return ramp
    if step < ramp[0][0]:
        return ramp[0][1]
    for (start, before), (end, after) in pairwise(ramp):
        if start <= step < end:
            return before + (after - before) * (step - start) / (end - start)
    return ramp[-1][1]


def total(
    model: SpacingMDN,
    spacing: Tensor,
    height: Tensor,
    solve: Solve,
    step: int,
    p: params.Losses,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a training step and its parts.

    Parameters
    ----------
    spacing : float32 tensor, shape (B, T), in mean spacings
        Positions 2 ... T are forecast; of a postfix model, `memory.positions` of them drawn anew,
        the last among them.
    height : float64 tensor, shape (B,)
        Rounded heights of the windows' first zeros.
    solve : :func:`zetalib.network.model.solver_of` the model
    step : 0-based, for the ramps
    generator : CPU generator
        All that is drawn comes from it.

    Returns
    -------
    loss : scalar
    parts : dict of detached scalars
        `nll`, `entropy` and every other loss by its name, without its weight.
    """
    inputs, y = spacing[:, :-1], spacing[:, 1:]
    if p.own_rollout > 0 and torch.rand((), generator=generator) < p.own_rollout:
        inputs = own_inputs(model, inputs, height, solve, p.drift_horizon, generator)
    at = None
    if model.memory_config.kind == "postfix":
        at = drawn_positions(inputs.shape[1], model.memory_config.positions, generator)
        at = at.to(spacing.device)
        y = y[:, at]
    used = {name for name, ramp in p.weights().items() if ramp != 0.0}
    of_memories = bool(used - {"drift"})
    trace = None
    if of_memories or model.config.inversion:
        trace = Trace(probabilities=not used.isdisjoint(_OF_ATTENTION))
    draw = training_draw(model.memory_config, generator)
    solution = solve(inputs, height)
    forecast = model(inputs, height, solution, at=at, trace=trace, intervene=draw)
    experts = None if trace is None else trace.experts
    learned = [forecast] if experts is None else experts[::-1]
    parts: dict[str, Tensor] = {}
    loss = torch.zeros((), device=spacing.device)
    for suffix, of in zip(("", "_alone", "_marginal"), learned, strict=False):
        value, entropy = nll(of, y).mean(), weight_entropy(of[0]).mean()
        loss = loss + value - model.config.entropy_reg * entropy
        parts |= {f"nll{suffix}": value, f"entropy{suffix}": entropy}
    if trace is not None and of_memories:
        with torch.autocast(spacing.device.type, enabled=False):
            found = of_memory(model, spacing, trace, p, used)
        for name, value in found.items():
            loss = loss + weight(getattr(p, name), step) * value
        parts |= found
    if "drift" in used and step % p.drift_every == 0:
        some = slice(p.drift_batch)
        parts["drift"] = drift(model, spacing[some], height[some], solve, p.drift_horizon)
        loss = loss + weight(p.drift, step) * parts["drift"]
    return loss, {name: value.detach() for name, value in parts.items()}


def drawn_positions(length: int, number: int, generator: torch.Generator) -> Tensor:
    """`number` positions of `length` in ascending order, the last one among them."""
    others = torch.randperm(length - 1, generator=generator)[: number - 1]
    return torch.cat([others.sort().values, torch.tensor([length - 1])])


def of_memory(
    model: SpacingMDN, spacing: Tensor, trace: Trace, p: params.Losses, used: set[str]
) -> dict[str, Tensor]:
    """The losses named in `used` that a memory has, from the trace of a forward pass."""
    assert trace.slots is not None and trace.memory is not None
    states, found = trace.memory.float(), {}
    if "diversity" in used:
        found["diversity"] = diversity(trace.slots.float())
    if "orthogonality" in used:
        found["orthogonality"] = orthogonality(states)
    mass = None
    if trace.memory_mass:
        # (B, M): attention to each slot, over layers, heads and the rows that see it
        mass = torch.stack([layer.float().mean((1, 2)) for layer in trace.memory_mass]).mean(0)
    if "attention_entropy" in used and mass is not None:
        found["attention_entropy"] = attention_entropy(mass)
    if "mass_cap" in used and mass is not None:
        found["mass_cap"] = (mass.mean(0) - p.mass_limit).clamp(min=0).sum()
    if used.isdisjoint({"statistics", "roles"}):
        return found
    describe = q3_invariants if p.invariants == "q3" else window_statistics
    target = z_scored(describe(spacing.float()))
    if "statistics" in used:
        told = model.statistics(states, p.diagonal)
        distance = F.mse_loss if p.aux_loss == "mse" else F.huber_loss
        found["statistics"] = distance(told, target)
    if "roles" in used and mass is not None:
        found["roles"] = roles(mass, target)
    return found


def diversity(slots: Tensor) -> Tensor:
    """Q3: mean((Gram - 1)^2) of slots as fed, shape (M, width)."""
    gram = slots @ slots.T
    return (gram - torch.eye(len(slots), device=slots.device)).square().mean()


def orthogonality(states: Tensor) -> Tensor:
    """E5: mean squared cosine between different slots' final states, shape (B, M, width)."""
    unit = F.normalize(states, dim=-1)
    square = (unit @ unit.transpose(1, 2)).square()
    m = states.shape[1]
    off = ~torch.eye(m, dtype=torch.bool, device=states.device)
    return (square * off).sum() / (len(states) * max(m * (m - 1), 1))


def attention_entropy(mass: Tensor) -> Tensor:
    """Log M - H of the slots' shares of attention, from their mass, shape (B, M): zero if even."""
    share = mass.mean(0)
    share = share / share.sum().clamp(min=1e-12)
    # Dropped slots have no share: kept from log 0, whose gradient is no number.
    return math.log(len(share)) + (share * share.clamp(min=1e-12).log()).sum()


def roles(mass: Tensor, target: Tensor) -> Tensor:
    """1 - mean over i of the correlation, over the batch, of attention to slot i and statistic i.

    Shapes (B, M) and (B, n), M >= n.
    """
    n = target.shape[1]
    return 1 - (z_scored(mass[:, :n]) * target).mean()


def z_scored(values: Tensor) -> Tensor:
    """Columns of (B, n) with mean zero and variance one; zero where the batch has no spread."""
    centred = values - values.mean(0)
    return centred / centred.square().mean(0).clamp(min=1e-12).sqrt()


def window_statistics(spacing: Tensor) -> Tensor:
    """E1, E2: mean, std, least, greatest, acf at 1 and 2, skewness, share below a half.

    Spacings (B, T) to (B, 8).
    """
    mean, std = spacing.mean(1), spacing.std(1, correction=0).clamp(min=1e-6)
    z = (spacing - mean[:, None]) / std[:, None]
    acf = [(z[:, lag:] * z[:, :-lag]).mean(1) for lag in (1, 2)]
    ends = [spacing.amin(1), spacing.amax(1)]
    small = (spacing < 0.5).float().mean(1)
    return torch.stack([mean, std, *ends, *acf, (z**3).mean(1), small], 1)


def q3_invariants(spacing: Tensor) -> Tensor:
    """M0 ... M7 of docs/reference.md, 1.2, spacings (B, T) to (B, 8).

    M0 mean - 1; M1 entropy of a 16-bin histogram over 0 ... 4; M2 max |D x|; M3 1 % quantile;
    M4 mean |D^2 x|; M5 |difference of means| + |difference of stds| of the two halves; M6 mean
    power of D x in the top quarter of frequencies; M7 rms deviation of the cumulative sum from the
    straight line that fits it best.
    """
    length = spacing.shape[1]
    first = spacing.diff(dim=1)
    number = (spacing * (BINS / RANGE)).long().clamp(0, BINS - 1)
    share = F.one_hot(number, BINS).float().mean(1)
    halves = spacing[:, : length // 2], spacing[:, length - length // 2 :]
    means, stds = zip(*((h.mean(1), h.std(1, correction=0)) for h in halves), strict=True)
    power = torch.fft.rfft(first, norm="ortho").abs().square()
    line = torch.arange(length, device=spacing.device, dtype=spacing.dtype)
    line = line - line.mean()
    walk = running_sum(spacing)
    walk = walk - walk.mean(1, keepdim=True)
    slope = (walk @ line) / line.square().sum()
    columns = [
        spacing.mean(1) - 1,
        -torch.special.xlogy(share, share).sum(1),
        first.abs().amax(1),
        spacing.quantile(0.01, dim=1),
        first.diff(dim=1).abs().mean(1),
        (means[0] - means[1]).abs() + (stds[0] - stds[1]).abs(),
        power[:, 3 * power.shape[1] // 4 :].mean(1),
        (walk - slope[:, None] * line).square().mean(1).sqrt(),
    ]
    return torch.stack(columns, 1)


def drift(model: SpacingMDN, spacing: Tensor, height: Tensor, solve: Solve, horizon: int) -> Tensor:
    """|cumulative predicted - cumulative true| over a rollout of the mean into a window's end.

    Shapes (B, T) and (B,); gradients run through the whole rollout.
    """
    predicted = rolled_out(model, spacing[:, :-horizon], height, solve, horizon, "mean", None)
    return running_sum(predicted - spacing[:, -horizon:]).abs().mean()


@torch.no_grad()
def own_inputs(
    model: SpacingMDN,
    inputs: Tensor,
    height: Tensor,
    solve: Solve,
    horizon: int,
    generator: torch.Generator,
) -> Tensor:
    """Inputs (B, T) whose last `horizon` are the model's own samples: scheduled sampling.

    Bengio, Vinyals, Jaitly, Shazeer (2015). What is to be forecast stays the true spacing.
    """
    known = inputs[:, :-horizon]
    return torch.cat(
        [known, rolled_out(model, known, height, solve, horizon, "sample", generator)], 1
    )


def rolled_out(
    model: SpacingMDN,
    context: Tensor,
    height: Tensor,
    solve: Solve,
    horizon: int,
    feedback: Literal["mean", "sample"],
    generator: torch.Generator | None,
) -> Tensor:
    """As :func:`zetalib.forecasting.rollout.rollout`, in torch: (B, T) to (B, horizon), sliding."""
    window, predicted = context, []
    last = torch.tensor([context.shape[1] - 1], device=context.device)
    for _ in range(horizon):
        forecast = model(window, height, solve(window, height), at=last)
        if feedback == "sample":
            drawn = sampled(forecast, generator)
        else:
            drawn = (forecast[0].exp() * forecast[1]).sum(-1)
        predicted.append(drawn)
        window = torch.cat([window[:, 1:], drawn], 1)
    return torch.cat(predicted, 1)


def sampled(forecast: Forecast, generator: torch.Generator | None) -> Tensor:
    """A draw from each mixture, (B, P, K) to (B, P)."""
    log_pi, mu, sigma = forecast
    shape = mu.shape[:-1]
    uniform = torch.rand(shape, generator=generator)
    normal = torch.randn(shape, generator=generator)
    cumulative = running_sum(log_pi.exp().flatten(0, -2))
    edges = cumulative.reshape(log_pi.shape)[..., :-1]
    k = (uniform.to(mu.device)[..., None] > edges).sum(-1, keepdim=True)
    return (mu.gather(-1, k) + sigma.gather(-1, k) * normal.to(mu.device)[..., None])[..., 0]
