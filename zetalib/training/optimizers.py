"""Which parameter is moved by what, how fast, and how weights are averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from zetalib import params

_DECAY = 0.2  # wsd: the last share of the run, in which the rate falls to zero


def progress(step: int, p: params.Train, elapsed: float) -> float:
    """Share of the run that is done after `step` steps: the run ends at 1.

    Of the steps after warm-up (so negative before), or, with `max_minutes`, of that time, of which
    `elapsed` seconds are gone.
    """
    if p.max_minutes is None:
        return (step - p.warmup) / (p.steps - p.warmup)
    return elapsed / (60 * p.max_minutes)


def learning_rate(step: int, p: params.Train, done: float) -> float:
    """Rate of the 0-based `step` at :func:`progress` `done`: linear warm-up times the schedule.

    linear: 1 - done; cosine: (1 + cos(pi done)) / 2; constant: 1; wsd (warm-up, stable, decay):
    1, then linear to zero over the last fifth.
    """
    done = min(max(done, 0.0), 1.0)
    shape = {
        "linear": 1 - done,
        "cosine": (1 + math.cos(math.pi * done)) / 2,
        "constant": 1.0,
        "wsd": min(1.0, (1 - done) / _DECAY),
    }[p.schedule]
    return p.lr * min(1.0, (step + 1) / max(p.warmup, 1)) * shape


def parameter_groups(model: nn.Module, p: params.Train, memory_lr: float) -> dict[str, Any]:
    """Parameter groups by name: hidden, matrices, others, memory; each in the order of the model.

    hidden: the matrices of the blocks; matrices: those of the embedding and the head; others:
    norms, biases, positions, frequencies, without weight decay; memory: what carries the flag
    `is_memory`, at `memory_lr` times the rate and without weight decay.
    """
    groups: dict[str, dict[str, Any]] = {
        "hidden": {"weight_decay": p.weight_decay, "scale": 1.0},
        "matrices": {"weight_decay": p.weight_decay, "scale": 1.0},
        "others": {"weight_decay": 0.0, "scale": 1.0},
        "memory": {"weight_decay": 0.0, "scale": memory_lr, "is_memory": True},
    }
    for name, weight in model.named_parameters():
        if getattr(weight, "is_memory", False):
            kind = "memory"
        elif weight.dim() != 2 or not name.endswith("weight"):
            kind = "others"
        else:
            kind = "hidden" if name.startswith("blocks.") else "matrices"
        groups[kind].setdefault("params", []).append(weight)
    return {name: group for name, group in groups.items() if "params" in group}


class Optimizers:
    """AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix; its step is scaled to the
    size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that `lr` and `weight_decay` mean the
    same for both.
    """

    def __init__(self, model: nn.Module, p: params.Train, memory_lr: float) -> None:
        groups = parameter_groups(model, p, memory_lr)
        self._all: list[torch.optim.Optimizer] = []
        if p.optimizer == "muon":
            hidden = [groups.pop("hidden")]
            self._all.append(torch.optim.Muon(hidden, p.lr, adjust_lr_fn="match_rms_adamw"))
        self._all.append(torch.optim.AdamW(groups.values(), p.lr, (0.9, p.beta2), fused=True))

    @property
    def groups(self) -> Iterator[dict[str, Any]]:
        """All parameter groups."""
        return (group for each in self._all for group in each.param_groups)

    def step(self, rate: float) -> None:
        """One step of each optimizer at learning rate `rate`, scaled group by group."""
        for group in self.groups:
            group["lr"] = rate * group["scale"]
        for each in self._all:
            each.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for each in self._all:
            each.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """State of each optimizer, for a checkpoint."""
        return [each.state_dict() for each in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put back what :meth:`state_dict` gave."""
        for each, state in zip(self._all, states, strict=True):
            each.load_state_dict(state)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the parameters of `average` towards those of `model` after the 1-based `step`.

    An exponential mean with the given decay; shorter in the beginning, so that the initial weights
    are soon forgotten. Buffers are taken over as they are.
    """
    share = 1 - min(decay, step / (step + 9))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
    for kept, buffer in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(buffer)
