"""Forecasts along growing contexts, the keys and values of what came before kept.

A causal pass gives a spacing's keys and values once and for all: what follows does not move them.
So a context that has grown by one spacing costs one row a layer, and the forecast is that of a
pass over the whole of it. That holds while positions go on from the window's first zero: rotary
ones by index or by height, learned ones up to the length the model was trained for. A context that
lost its beginning is read anew. Slots of a prefix stand before the spacings and are kept with them;
those of a postfix see each context once and are not kept.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from zetalib.densities.mixture import Mixture
from zetalib.inverse.extrapolate import Coasting
from zetalib.network.memory import Intervention
from zetalib.network.model import SCALE, Block, SpacingMDN, features
from zetalib.network.positions import Rotation, height_offsets, log_height, rotate

Floats = NDArray[np.float64]

# Trajectories whose keys fit a core's share of the cache: twice as fast as from memory. With the
# inversion, what is not attention weighs more for it, and twice as many are best.
TOGETHER = 32
_LEAST = torch.tensor(torch.finfo(torch.float32).eps)  # added to a mean square: torch's own


class Decoder:
    """A model as a function of contexts (B, T) and heights (B,): mixtures (B, K) of what follows.

    Called with the contexts of the call before and one spacing more, it works on that spacing
    alone. The same numbers, to rounding, as :func:`zetalib.forecasting.forecasts.next_spacing`.

    Parameters
    ----------
    network : without a leaky mask, whose slots are moved by all that follows
    coasting : with `config.inversion`
    """

    def __init__(self, network: SpacingMDN, coasting: Coasting | None = None) -> None:
        if network.memory_config.mask == "leaky":
            raise ValueError("slots that see what follows have no keys to be kept")
        self.network, self.coasting = network.eval(), coasting
        self.device = next(network.parameters()).device
        self._before = np.empty((0, 0))

    @property
    def batch(self) -> int:
        """Trajectories best rolled out at a time."""
        return TOGETHER if self.coasting is None else 2 * TOGETHER

    def prepare(self, contexts: Floats, heights: Floats) -> None:
        """Do what is done once for contexts (B, T) at heights (B,), however they go on."""
        if self.coasting is not None:
            for i in range(0, len(contexts), self.batch):
                part = slice(i, i + self.batch)
                self.coasting.prepare(contexts[part], heights[part])

    @torch.inference_mode()
    def __call__(self, contexts: Floats, heights: Floats) -> Mixture:
        grown = len(self._before) == len(contexts) and np.array_equal(
            contexts[:, :-1], self._before
        )
        self._before = contexts.copy()
        spacing = torch.from_numpy(contexts).to(self.device, self.network.takes)
        height = torch.from_numpy(heights).to(self.device)
        inverted = None
        if self.coasting is not None:
            inverted = torch.from_numpy(self.coasting(contexts, heights)).to(self.device)
        if not grown:
            self._begin(len(contexts), spacing.shape[1])
        new = 1 if grown else spacing.shape[1]
        x, offset = self._tokens(spacing, height, inverted, new)
        x = self._through(x, offset, kept=True)[:, -1:]
        return self._mixture(x, offset, None if inverted is None else inverted[:, -1:])

    def _begin(self, batch: int, spacings: int) -> None:
        """Empty caches, and in them the slots of a prefix."""
        network = self.network
        if spacings > network.context:
            raise ValueError(f"{spacings} spacings given, the context is {network.context}")
        heads, width = network.config.heads, network.config.width
        self._prefix = network.memory_config.kind == "prefix"
        slots = 0 if network.memory is None else network.memory_config.slots
        rows, size = network.context + slots, width // heads
        self._cache = [
            (
                torch.empty(batch, heads, size, rows, device=self.device),
                torch.empty(batch, heads, rows, size, device=self.device),
            )
            for _ in network.blocks
        ]
        self._length, self._offset = 0, torch.zeros(batch, 1, device=self.device).double()
        self._states: Tensor | None = None
        if self._prefix:
            assert network.memory is not None
            x = network.memory.slots(Intervention()).expand(batch, -1, -1)
            before = None
            if network.rotary is not None:  # before the window, or at its first zero
                before = torch.arange(-slots, 0, device=self.device).double()[None]
                if network.config.positions == "arithmetic":
                    before = torch.zeros_like(before)
            self._states = self._through(x, before, kept=True)

    def _tokens(
        self, spacing: Tensor, height: Tensor, inverted: Tensor | None, new: int
    ) -> tuple[Tensor, Tensor | None]:
        """The last `new` spacings as tokens (B, new, width), and their offsets for rotations."""
        network, (_, t) = self.network, spacing.shape
        reach = new + network.config.lags - 1
        seen = (spacing[:, -reach:].float() - network.centre) / SCALE
        seen = F.pad(seen, (max(reach - t, 0), 0))
        x: Tensor = network.embed(seen.unfold(1, network.config.lags, 1))
        offset = None
        if network.position is not None:
            x = x + network.position[t - new : t]
        else:
            x = x + network.height(log_height(height))[:, None]
            offset = torch.arange(t - new, t, device=self.device).double()[None]
            if network.config.positions == "arithmetic":
                step = height_offsets(spacing[:, t - new :], height)
                offset = self._offset + step
                self._offset = offset[:, -1:]
        if network.prior is not None:
            assert inverted is not None
            last = slice(max(t - new - 1, 0), t)
            x = x + network.prior(features(spacing[:, last], inverted[:, last])[:, -new:])
        return x, offset

    def _through(self, x: Tensor, offset: Tensor | None, *, kept: bool) -> Tensor:
        """Rows (B, L, width) through all blocks, after what is kept; what comes out of the last.

        They see what is kept. `kept` rows see each other up to themselves and join it, others see
        all of each other.
        """
        network, start = self.network, self._length
        rotation = None
        if network.rotary is not None and offset is not None:
            rotation = network.rotary(offset)
        causal = kept and x.shape[1] > 1
        mask = None
        if causal and start:
            end = start + x.shape[1]
            mask = torch.ones(end, end, dtype=torch.bool, device=self.device).tril()[start:]
        for block, cache in zip(network.blocks, self._cache, strict=True):
            block = cast(Block, block)
            x = x + self._attend(block, x, rotation, cache, causal, mask)
            x = x + block.mlp(_normed(x, block.norm2))
        if kept:
            self._length += x.shape[1]
        return x

    def _attend(
        self,
        block: Block,
        x: Tensor,
        rotation: Rotation | None,
        cache: tuple[Tensor, Tensor],
        causal: bool,
        mask: Tensor | None,
    ) -> Tensor:
        b, rows, width = x.shape
        turned = self.network.config.positions == "arithmetic" and rotation is not None
        qkv = block.attention.qkv(_normed(x, block.norm1))
        qkv = qkv.view(b, rows, 3, block.attention.heads, -1)
        if rotation is not None:
            part = 3 if turned else 2
            qkv = torch.cat([rotate(qkv[:, :, :part], rotation), qkv[:, :, part:]], 2)
        q, k = _normed(qkv[:, :, :2]).permute(2, 0, 3, 1, 4)
        start, end = self._length, self._length + rows
        keys, values = cache[0][..., :end], cache[1][:, :, :end]
        keys[..., start:], values[:, :, start:] = k.transpose(2, 3), qkv[:, :, 2].transpose(1, 2)
        if rows > 1:
            rowwise = keys.mT.contiguous()
            y = F.scaled_dot_product_attention(
                q, rowwise, values, mask, is_causal=causal and mask is None
            )
        else:  # a row reads transposed keys in half the time of the fused kernel
            scale = q.shape[-1] ** -0.5
            y = torch.matmul(F.softmax(torch.matmul(scale * q, keys), -1), values)
        y = y.transpose(1, 2)
        if turned and rotation is not None:
            y = rotate(y[:, :, None], rotation, back=True)
        found: Tensor = block.attention.out(y.reshape(b, rows, width))
        return found

    def _mixture(self, x: Tensor, offset: Tensor | None, inverted: Tensor | None) -> Mixture:
        """The forecast, (B, K), from the last spacing's state, (B, 1, width)."""
        network, states = self.network, self._states
        if network.memory_config.kind == "postfix":
            assert network.memory is not None
            slots = network.memory.slots(Intervention())
            if network.position is not None:
                slots = slots + network.position[self._length - 1]
            at = None if offset is None else offset[:, -1:].expand(-1, len(slots))
            states = self._through(slots.expand(len(x), -1, -1), at, kept=False)
            x = network.memory.summary(states[:, None], None)
        read = _normed(x, network.norm)
        if network.link is not None:
            assert network.memory is not None and states is not None
            read = network.link(read, network.memory.summary(states[:, None], None), None)
        log_pi, mu, sigma = network.head(read).to(network.takes).chunk(3, -1)
        sigma = network.spread * (F.softplus(sigma) + network.config.sigma_floor)
        if inverted is None:
            mu = mu + network.centre
        else:
            anchor, unit = network._anchors(inverted)
            mu, sigma = anchor + unit * mu, unit * sigma
        pi = F.softmax(log_pi, -1)
        arrays = (a[:, 0].double().cpu().numpy() for a in (pi, mu, sigma))
        weights, means, deviations = arrays
        return Mixture(weights / weights.sum(-1, keepdims=True), means, deviations)


def _normed(x: Tensor, norm: torch.nn.RMSNorm | None = None) -> Tensor:
    """As `norm`, or without weights, in fewer operations than torch's on a CPU."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    x = x * torch.addcmul(_LEAST.to(x.device), length, length, value=1 / x.shape[-1]).rsqrt_()
    return x if norm is None else x * norm.weight
