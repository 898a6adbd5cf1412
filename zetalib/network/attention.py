"""Causal attention, its transformer block, and the keys and values kept from earlier rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zetalib.inverse.solutions import Solution
from zetalib.network.positions import Rotation, rotate
from zetalib.network.solution_density import Experts, Forecast

Keys = tuple[Tensor, Tensor]  # keys and values, each (B, H, L, d)


class Judged(NamedTuple):
    """The last spacing of contexts, as a model that starts from solutions saw it.

    `solution`, fields (B, 1); `features` of it, (B, 1, 11); forecasts of the `experts` then,
    (B, 1, K), and `log_weight` of each, (B, 1, M).
    """

    solution: Solution
    features: Tensor
    experts: Experts
    log_weight: Tensor

    def repeat(self, copies: int) -> Judged:
        """The same contexts, each `copies` times in a row."""

        def again(values: Tensor) -> Tensor:
            return values.repeat_interleave(copies, 0)

        def each(forecast: Forecast) -> Forecast:
            log_pi, mu, sigma = map(again, forecast)
            return log_pi, mu, sigma

        return Judged(
            Solution(*map(again, self.solution)),
            again(self.features),
            Experts(*map(each, self.experts)),
            again(self.log_weight),
        )


class KVCache:
    """Keys and values of a context so far, and what its next token looks back on.

    An object handed to the network's forward pass: rows given then follow those kept before, and
    are kept too. So a context that grows by one spacing costs one row a layer.

    Parameters
    ----------
    room : rows that fit, all in one place; None: they are concatenated, which gradients pass

    Attributes
    ----------
    length : rows so far, the slots of a prefix among them
    spacings : spacings so far
    recent : (B, lags - 1), the last inputs at unit scale
    offset : (B, 1), height of the last spacing above the first zero (arithmetic positions)
    judged : what a model that starts from solutions goes on from
    states : (B, 1, M, width), final states of the slots of a prefix
    """

    def __init__(self, room: int | None = None) -> None:
        self.room, self.length, self.spacings = room, 0, 0
        self.recent: Tensor | None = None
        self.offset: Tensor | None = None
        self.judged: Judged | None = None
        self.states: Tensor | None = None
        # With `room`, keys are transposed: one row reads them so in half the time.
        self._layers: dict[int, Keys] = {}
        self._new: dict[int, Keys] = {}

    @property
    def batch(self) -> int:
        """Number of contexts, B."""
        return len(self._layers[0][0])

    def extend(self, layer: int, k: Tensor, v: Tensor) -> Keys:
        """Keys and values of all rows, those given, (B, H, L, d), last.

        They are part of the cache after :meth:`advance`; without it they were only looked at.
        """
        start, end = self.length, self.length + k.shape[2]
        if self.room is None:
            if start:
                before = self._layers[layer]
                k, v = torch.cat([before[0], k], 2), torch.cat([before[1], v], 2)
            self._new[layer] = k, v
            return k, v
        if layer not in self._layers:
            b, h, _, d = k.shape
            self._layers[layer] = k.new_empty(b, h, d, self.room), v.new_empty(b, h, self.room, d)
        keys, values = self._layers[layer]
        if end > self.room:  # slots after many positions, which are not kept
            return torch.cat([keys[..., :start].mT, k], 2), torch.cat([values[:, :, :start], v], 2)
        keys[..., start:end] = k.mT
        values[:, :, start:end] = v
        return (keys[..., :end].mT, values[:, :, :end]) if start else (k, v)

    def advance(self, rows: int) -> None:
        """Keep the rows of the last pass."""
        self._layers |= self._new
        self._new = {}
        self.length += rows

    def repeat(self, copies: int) -> KVCache:
        """The same contexts, each `copies` times in a row."""
        found = KVCache(self.room)
        found.length, found.spacings = self.length, self.spacings
        found._layers = {
            layer: (k.repeat_interleave(copies, 0), v.repeat_interleave(copies, 0))
            for layer, (k, v) in self._layers.items()
        }
        for name in ("recent", "offset", "states"):
            value = getattr(self, name)
            if value is not None:
                value = value.repeat_interleave(copies, 0)
            setattr(found, name, value)
        if self.judged is not None:
            found.judged = self.judged.repeat(copies)
        return found


@dataclass
class Mixing:
    """How the rows of one pass attend, for all its layers.

    `mask` is (rows, columns), True where a row sees a column; None: causal. `memory` marks the
    columns that are slots, (columns,); `scale` multiplies what rows get from them, (B or 1, rows).
    """

    rotation: Rotation | None = None
    turn_values: bool = False
    mask: Tensor | None = None
    memory: Tensor | None = None
    scale: Tensor | None = None
    heads_off: tuple[tuple[int, int], ...] = ()
    watch: Callable[[Tensor], None] | None = None  # given the probabilities of each layer


class Attention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, mixing: Mixing, cache: KVCache | None = None) -> Tensor:
        """Map (B, L, width) to the same; columns are the rows, after those of `cache`."""
        b, t, width = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.heads, -1)
        if mixing.rotation is None:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
        elif mixing.turn_values:
            q, k, v = rotate(qkv, mixing.rotation).permute(2, 0, 3, 1, 4)
        else:
            q, k = rotate(qkv[:, :, :2], mixing.rotation).permute(2, 0, 3, 1, 4)
            v = qkv[:, :, 2].transpose(1, 2)
        q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        y = self._mix(q, k, v, mixing).transpose(1, 2)
        if mixing.rotation is not None and mixing.turn_values:
            y = rotate(y[:, :, None], mixing.rotation, back=True)
        off = [head for layer, head in mixing.heads_off if layer == self.layer]
        if off:
            kept = torch.ones(self.heads, 1, device=x.device)
            kept[off] = 0
            y = y.reshape(b, t, self.heads, -1) * kept
        found: Tensor = self.out(y.reshape(b, t, width))
        return found

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mixing: Mixing) -> Tensor:
        rows, columns = q.shape[2], k.shape[2]
        if mixing.watch is None and mixing.scale is None:
            if rows == 1 and mixing.mask is None and columns > 1:  # the last row sees all
                score = torch.matmul(q * q.shape[-1] ** -0.5, k.mT)
                return torch.matmul(score.softmax(-1), v)
            causal = mixing.mask is None
            return F.scaled_dot_product_attention(
                q, k.contiguous() if columns > rows else k, v, mixing.mask, is_causal=causal
            )
        mask = mixing.mask
        if mask is None:
            mask = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril(columns - rows)
        score = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        weight = score.masked_fill(~mask, -math.inf).softmax(-1)
        if mixing.watch is not None:
            mixing.watch(weight)
        if mixing.scale is not None and mixing.memory is not None:
            scale = mixing.scale.to(weight)[:, None, :, None]
            weight = torch.where(mixing.memory, weight * scale, weight)
        return weight.to(v.dtype) @ v


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, layer)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, mixing: Mixing, cache: KVCache | None = None) -> Tensor:
        """As :meth:`Attention.forward`."""
        x = x + self.attention(self.norm1(x), mixing, cache)
        found: Tensor = x + self.mlp(self.norm2(x))
        return found
