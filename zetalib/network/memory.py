"""Memory: learned slots beside the spacings (docs/reference.md, 1.2: E1, E2, Q3, E3, E4, E5).

A slot fed to the network is m_i = content_i + id_i.

- prefix (E1, E2, Q3): [M_0 ... M_7, s_1 ... s_T] under one causal mask. Slots see slots, spacings
  see slots and their past; slots hold learned constants. With `mask: leaky`, the published mask of
  Q3, slots see the whole window and every spacing sees them: the target is in its own input.
- postfix (E3, E4, E5): [s_1 ... s_t, M_0 ... M_7] for every position t that is asked for. Slots see
  spacings up to t and each other, spacings never see slots, and the forecast is made from
  sum_i w_i M_i alone, w = softmax of learned weights.

Links bring the summary m = sum_i w_i M_i of the final slot states to what the head reads, h:
film h (1 + A m) + B m, gate h + sigmoid(G h) A m, readout h + A m. They start as no link at all.
A causal prefix has seen no data: there m is a learned constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zetalib import params


@dataclass(frozen=True)
class Intervention:
    """What is done to a model's parts in a forward pass: training draws, ablations, remedies.

    Attributes
    ----------
    slots_off : numbers of slots, or bool tensor (M,)
        Slots that nothing attends to or reads.
    heads_off : pairs (layer, head)
        Heads whose output is zero.
    permute : permutation of M numbers, or int64 tensor (M,)
        Slot i gets the ID of slot permute[i].
    only : slots are their IDs alone, or their content alone
    fade : scale of what memory contributes to spacings (prefix) or to the forecast (postfix, links)
    gate : shape (B,) or (B, T)
        A scale of the same kind for each window, or each position of it.
    """

    slots_off: tuple[int, ...] | Tensor = ()
    heads_off: tuple[tuple[int, int], ...] = ()
    permute: tuple[int, ...] | Tensor | None = None
    only: Literal["ids", "content"] | None = None
    fade: float = 1.0
    gate: Tensor | None = None

    def kept(self, slots: int, device: torch.device) -> Tensor | None:
        """Bool tensor (M,): the slots that are on; None: all are."""
        if isinstance(self.slots_off, Tensor):
            return ~self.slots_off.to(device)
        if not self.slots_off:
            return None
        kept = torch.ones(slots, dtype=torch.bool, device=device)
        kept[list(self.slots_off)] = False
        return kept

    def scale(self, positions: int, at: Tensor | None = None) -> Tensor | None:
        """Scale of memory's contribution, shape (1 or B, 1 or P); None: one everywhere.

        `positions` is T; `at` are the positions wanted of it.
        """
        if self.gate is None:
            return None if self.fade == 1 else torch.tensor([[self.fade]])
        gate = self.gate if self.gate.dim() == 2 else self.gate[:, None].expand(-1, positions)
        return self.fade * (gate if at is None else gate[:, at])


class Memory(nn.Module):
    """The slots, their pooling and the centroid of what they were trained on.

    Parameters carry `is_memory = True`, for a learning rate of their own.
    """

    centroid: Tensor
    likeness: Tensor

    def __init__(self, config: params.Memory, width: int) -> None:
        super().__init__()
        self.config = config
        shape = (config.slots, width)
        self.content: nn.Parameter | None = None
        self.ids: nn.Parameter | None = None
        self.pooling: nn.Parameter | None = None
        if config.content == "normal":
            self.content = nn.Parameter(torch.empty(shape).normal_(std=1 / math.sqrt(width)))
        if config.ids != "off":
            self.ids = nn.Parameter(torch.empty(shape).normal_(std=1 / math.sqrt(width)))
        if config.kind == "postfix" or config.link != "none":
            self.pooling = nn.Parameter(torch.zeros(config.slots))
        for weight in self.parameters():
            weight.is_memory = True  # type: ignore[attr-defined]
        self.register_buffer("centroid", torch.zeros(width))
        self.register_buffer("likeness", torch.ones(()))

    def slots(self, intervene: Intervention) -> Tensor:
        """Slots as fed, shape (M, width)."""
        parts: list[Tensor] = []
        if self.content is not None and intervene.only != "ids":
            parts.append(self.content)
        if self.ids is not None and intervene.only != "content":
            order = intervene.permute
            parts.append(self.ids if order is None else self.ids[_index(order, self.ids.device)])
        if not parts:  # asked for what this memory does not have
            return torch.zeros_like(next(self.parameters()))
        return torch.stack(parts).sum(0)

    def summary(self, states: Tensor, kept: Tensor | None) -> Tensor:
        """Learned weighted mean over the slots that are on: (..., M, width) to (..., width)."""
        assert self.pooling is not None
        weight = self.pooling.softmax(0)
        if kept is not None:
            weight = weight * kept
            weight = weight / weight.sum().clamp(min=1e-12)
        return (weight[:, None] * states).sum(-2)


class Link(nn.Module):
    """How a memory summary m reaches what the head reads, h; see the module's description."""

    def __init__(self, kind: Literal["film", "gate", "readout"], width: int) -> None:
        super().__init__()
        self.kind = kind
        self.out = nn.Linear(width, width, bias=False)
        if kind == "film":
            self.scale = nn.Linear(width, width, bias=False)
        if kind == "gate":
            self.gate = nn.Linear(width, width)

    def start_closed(self) -> None:
        """Weights with which `forward` returns `h`."""
        nn.init.zeros_(self.out.weight)
        if self.kind == "film":
            nn.init.zeros_(self.scale.weight)

    def forward(self, h: Tensor, m: Tensor, scale: Tensor | None) -> Tensor:
        """Shapes (B, P, width), (B, 1 or P, width) and (B or 1, P or 1) to (B, P, width)."""
        m = F.rms_norm(m, m.shape[-1:])
        if scale is not None:
            m = m * scale[..., None].to(m)
        if self.kind == "film":
            return cast(Tensor, h * (1 + self.scale(m)) + self.out(m))
        opened = torch.sigmoid(self.gate(h)) if self.kind == "gate" else 1.0
        return cast(Tensor, h + opened * self.out(m))


class Statistics(nn.Module):
    """Auxiliary head: what slot states tell of a window's statistics.

    z_n = b_n + sum_i a_ni . M_i over all slots i, or (E5, `diagonal`) over i = n alone.
    """

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(params.STATISTICS, slots, width).normal_(std=0.02))
        self.bias = nn.Parameter(torch.zeros(params.STATISTICS))

    def forward(self, states: Tensor, diagonal: bool) -> Tensor:
        """(B, M, width) to (B, params.STATISTICS)."""
        told = torch.einsum("bmw,nmw->bnm", F.rms_norm(states, states.shape[-1:]), self.weight)
        chosen = told.diagonal(0, 1, 2) if diagonal else told.sum(-1)
        return chosen + self.bias


def training_draw(config: params.Memory, generator: torch.Generator) -> Intervention | None:
    """What a training step does to the slots: slot dropout (Q3), permuted IDs (E4, "ID-detox").

    A pure function of the generator, on the CPU; None where nothing is ever drawn.
    """
    if config.kind == "none" or (config.dropout == 0 and config.ids != "permute_per_batch"):
        return None
    off: tuple[int, ...] | Tensor = ()
    if config.dropout > 0:
        off = torch.rand(config.slots, generator=generator) < config.dropout
    permuted = config.ids == "permute_per_batch"
    order = torch.randperm(config.slots, generator=generator) if permuted else None
    return Intervention(slots_off=off, permute=order)


@torch.no_grad()
def project(memory: Memory, norm: float) -> None:
    """Scale down slots whose norm, content and ID together, is above `norm` (Q3: 2, ramps: 5)."""
    found = memory.slots(Intervention()).norm(dim=-1, keepdim=True)
    shrink = (norm / found.clamp(min=1e-12)).clamp(max=1)
    for part in (memory.content, memory.ids):
        if part is not None:
            part.mul_(shrink)


def _index(order: tuple[int, ...] | Tensor, device: torch.device) -> Tensor:
    return torch.as_tensor(order, dtype=torch.int64, device=device)
