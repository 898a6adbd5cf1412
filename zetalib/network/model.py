"""SpacingMDN: a causal transformer from spacings to a mixture of Gaussians for the next one.

Token t sees the last `lags` spacings s_{t-lags+1} ... s_t of the window (1 as published; with more,
the first layer alone can act as the linear predictor AR(lags)); pre-norm blocks of causal attention
and a 4x MLP follow; the head gives

    p(s_{t+1} | s_1 ... s_t) = sum_k pi_k N(mu_k, sigma_k)

with pi by softmax and sigma by softplus + floor. One network, whose parts are chosen apart:
positions learned (docs/reference.md, E0), rotary by index (Flash) or by log p
(:mod:`zetalib.network.positions`), and none, a prefix or a postfix of memory slots
(:mod:`zetalib.network.memory`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from zetalib import atomic, params
from zetalib.errors import ZetaError
from zetalib.inverse import solution_cache
from zetalib.network.memory import Intervention, Link, Memory, Statistics
from zetalib.network.positions import Rotary, Rotation, height_offsets, log_height, rotate

FEATURES = 11  # of the inversion, told to a token
SCALE = 0.41  # std of spacings: inputs reach the network at unit scale
CHUNK = 32  # positions whose postfix slots attend in one go: their mask grows with the square

Forecast = tuple[Tensor, Tensor, Tensor]  # log_pi, mu, sigma, each (B, P, K)
Keys = tuple[Tensor, Tensor]  # keys and values, each (B, H, T, d)


@dataclass
class Trace:
    """What happened inside a forward pass, for losses and diagnostics; filled by the model.

    Attributes
    ----------
    probabilities : whether attention is recorded, which takes a slower path
    slots : (M, width)
        Slots as fed: content and ID.
    memory : (B, M, width)
        Final states of the slots; postfix: of those of the last position asked for.
    attention : list of (B, H, Q, Q), one a layer
        Probabilities. Rows and columns: the slots of a prefix, then the spacings.
    memory_attention : list of (B, H, P, M, T + M), one a layer
        Postfix only: rows are the slots of each position, columns the spacings, then those slots.
    memory_mass : list of (B, H, rows, M), one a layer
        Attention to each slot of the rows that may see it: spacings (prefix, T rows), the slots
        themselves (postfix, P M rows).
    hidden : list of (B, T, width)
        Spacings' states after each block.
    read : (B, P, width)
        What the head reads, before the link.
    """

    probabilities: bool = True
    slots: Tensor | None = None
    memory: Tensor | None = None
    attention: list[Tensor] = field(default_factory=list)
    memory_attention: list[Tensor] = field(default_factory=list)
    memory_mass: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    read: Tensor | None = None


@dataclass
class _Mixing:
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

    def forward(self, x: Tensor, mixing: _Mixing, past: Keys | None = None) -> tuple[Tensor, Keys]:
        """(B, L, width) to the same and the rows' keys and values.

        Columns are the rows themselves, after those of `past` if given.
        """
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
        keys = (k, v)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = self._mix(q, k, v, mixing).transpose(1, 2)
        if mixing.rotation is not None and mixing.turn_values:
            y = rotate(y[:, :, None], mixing.rotation, back=True)
        off = [head for layer, head in mixing.heads_off if layer == self.layer]
        if off:
            kept = torch.ones(self.heads, 1, device=x.device)
            kept[off] = 0
            y = y.reshape(b, t, self.heads, -1) * kept
        return self.out(y.reshape(b, t, width)), keys

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mixing: _Mixing) -> Tensor:
        if mixing.watch is None and mixing.scale is None:
            causal = mixing.mask is None
            return F.scaled_dot_product_attention(q, k, v, mixing.mask, is_causal=causal)
        rows, columns = q.shape[2], k.shape[2]
        mask = mixing.mask
        if mask is None:
            mask = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril()
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

    def forward(self, x: Tensor, mixing: _Mixing, past: Keys | None = None) -> tuple[Tensor, Keys]:
        """As :meth:`Attention.forward`."""
        mixed, keys = self.attention(self.norm1(x), mixing, past)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), keys


class SpacingMDN(nn.Module):
    """The forecaster.

    Parameters
    ----------
    config : zetalib.params.Model
    memory : zetalib.params.Memory
    context : int
        Longest input: window length - 1. Slots do not count.
    """

    spread: Tensor

    def __init__(self, config: params.Model, memory: params.Memory, context: int) -> None:
        super().__init__()
        self.config, self.memory_config, self.context = config, memory, context
        width = config.width
        self.embed = nn.Linear(config.lags, width)
        self.position: nn.Parameter | None = None
        self.rotary: Rotary | None = None
        if config.positions == "learned":
            self.position = nn.Parameter(torch.empty(context, width))
        else:
            self.rotary = Rotary(config)
            self.height = nn.Linear(1, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, i) for i in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, 3 * config.components)
        self.register_buffer("spread", torch.ones(()))  # set after training: params.Train.rescale
        self.prior: nn.Linear | None = None
        self.known = solution_cache.SolutionCache()
        if config.inversion:
            self.prior = nn.Linear(FEATURES, width)
        self.memory: Memory | None = None
        self.link: Link | None = None
        if memory.kind != "none":
            self.memory = Memory(memory, width)
            self.statistics = Statistics(memory.slots, width)
            if memory.link != "none":
                self.link = Link(memory.link, width)
        self._initialise()

    def _initialise(self) -> None:
        config, k = self.config, self.config.components
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(config.lags))
        if self.position is not None:
            nn.init.normal_(self.position, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                # Residual branches start small (GPT-2).
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.layers))
        with torch.no_grad():  # components start spread over the support of a spacing
            self.head.bias[k : 2 * k] = torch.linspace(0.2, 2.0, k) - self.centre
            self.head.bias[2 * k :] = -1.0
            if config.inversion:
                self._anchor_head()
        if self.link is not None:
            self.link.start_closed()

    def _anchor_head(self) -> None:
        """Half of the Gaussians start on the fine forecast, a quarter on the middle one."""
        k = self.config.components
        fine, middle = k // 2, k // 4
        bias = torch.zeros(3, k)
        bias[2, :fine] = torch.linspace(-1.5, 2.0, fine)
        bias[2, fine : fine + middle] = torch.linspace(-0.5, 1.0, middle)
        bias[1, fine + middle :] = torch.linspace(-1.0, 1.0, k - fine - middle)
        self.head.bias.copy_(bias.flatten())

    @property
    def takes(self) -> torch.dtype:
        """Type spacings come in: the inversion uses all their digits."""
        return torch.float64 if self.config.inversion else torch.float32

    @property
    def centre(self) -> float:
        """What is subtracted from inputs and added to means: 1 when working on residuals."""
        return 1.0 if self.config.target == "residual" else 0.0

    def forward(
        self,
        spacing: Tensor,
        height: Tensor,
        *,
        at: Tensor | None = None,
        trace: Trace | None = None,
        intervene: Intervention | None = None,
        inverted: Tensor | None = None,
    ) -> Forecast:
        """Forecast the spacing after every position.

        Parameters
        ----------
        spacing : tensor of type `takes`, shape (B, T), T <= context, in mean spacings
        height : float64 tensor, shape (B,)
            Of the zero before the first spacing (:func:`zetalib.data.window.rounded_height`).
        at : int64 tensor, shape (P,)
            Positions to forecast after; None: all T of them.
        trace : filled with what happens inside
        intervene : what is done to the model's parts
        inverted : float64 tensor, shape (B, T, 7)
            With `config.inversion`, what :mod:`zetalib.inverse.solver` says after each position;
            None: it is looked up in `known`, or computed (:meth:`solved`). Give it to a compiled
            network: of windows looked up one by one each would be a branch, compiled anew.

        Returns
        -------
        log_pi, mu, sigma : tensors of type `takes`, shape (B, T, K), or (B, P, K) with `at`
            Entry t forecasts spacing t + 1 from spacings 0 ... t of its own row; in mean spacings
            whatever `target` is.
        """
        t = spacing.shape[1]
        if t > self.context:
            raise ValueError(f"{t} spacings given, the model's context is {self.context}")
        if height.shape != spacing.shape[:1]:
            raise ValueError(
                f"{len(spacing)} windows given, heights of shape {tuple(height.shape)}"
            )
        intervene = Intervention() if intervene is None else intervene
        x, offset = self._embedded(spacing, height)
        if self.prior is not None:
            if inverted is None:
                inverted = self.solved(spacing, height)
            assert inverted is not None
            x = x + self.prior(features(spacing, inverted))
        states: Tensor | None
        if self.memory_config.kind == "postfix":
            read, states = self._postfix(x, offset, at, trace, intervene)
        else:
            read, states = self._sequence(x, offset, at, trace, intervene)
        if trace is not None:
            trace.read = read
            trace.memory = None if states is None else states[:, -1]
        if self.link is not None:
            assert self.memory is not None and states is not None
            kept = intervene.kept(states.shape[2], states.device)
            scale = _on(intervene.scale(t, at), read.device)
            read = self.link(read, self.memory.summary(states, kept), scale)
        log_pi, mu, sigma = self.head(read).to(self.takes).chunk(3, -1)
        sigma = self.spread * (F.softplus(sigma) + self.config.sigma_floor)
        log_pi = F.log_softmax(log_pi, -1)
        if inverted is None:
            return log_pi, mu + self.centre, sigma
        anchor, unit = self._anchors(inverted if at is None else inverted[:, at])
        return log_pi, anchor + unit * mu, unit * sigma

    @torch.no_grad()
    def solved(self, spacing: Tensor, height: Tensor) -> Tensor | None:
        """What the inversion says after each position, (B, T, 7); None for networks without it."""
        if self.prior is None:
            return None
        found = self.known(spacing.detach().cpu().numpy(), height.cpu().numpy())
        return torch.from_numpy(found).to(spacing.device)

    def _anchors(self, inverted: Tensor) -> tuple[Tensor, Tensor]:
        """Origin and unit of each Gaussian's mean and sigma, (B, P, K), in mean spacings.

        Half of them speak of the distance from the fine forecast in its standard deviations, a
        quarter of that from the middle one, the others of spacings.
        """
        k = self.config.components
        of = torch.full((k,), 2, device=inverted.device)
        of[: k // 2] = 0
        of[k // 2 : k // 2 + k // 4] = 1
        whole = torch.ones_like(inverted[..., 0])
        anchor = torch.stack([inverted[..., 0], inverted[..., 2], whole], -1)
        unit = torch.stack([inverted[..., 1], inverted[..., 3], SCALE * whole], -1)
        return anchor[..., of], unit[..., of]

    def _embedded(self, spacing: Tensor, height: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, width) and, for rotary positions, their offsets (B or 1, T)."""
        t, lags = spacing.shape[1], self.config.lags
        padded = F.pad((spacing.float() - self.centre) / SCALE, (lags - 1, 0))
        x = self.embed(padded.unfold(1, lags, 1))
        if self.position is not None:
            return x + self.position[:t], None
        x = x + self.height(log_height(height))[:, None]
        if self.config.positions == "arithmetic":
            return x, height_offsets(spacing, height)
        return x, torch.arange(t, dtype=torch.float64, device=spacing.device)[None]

    def _mixing(self, offset: Tensor | None, intervene: Intervention) -> _Mixing:
        mixing = _Mixing(heads_off=intervene.heads_off)
        if self.rotary is not None and offset is not None:
            mixing.rotation = self.rotary(offset)
            mixing.turn_values = self.config.positions == "arithmetic"
        return mixing

    def _sequence(
        self,
        x: Tensor,
        offset: Tensor | None,
        at: Tensor | None,
        trace: Trace | None,
        intervene: Intervention,
    ) -> tuple[Tensor, Tensor | None]:
        """One causal pass over the slots of a prefix, if any, and the spacings.

        Returns what the head reads, (B, P, width), and the slots' final states, (B, 1, M, width).
        """
        b, t = x.shape[:2]
        slots = 0
        if self.memory is not None:
            slots = self.memory_config.slots
            fed = self.memory.slots(intervene)
            x = torch.cat([fed.to(x).expand(b, -1, -1), x], 1)
            if trace is not None:
                trace.slots = fed
            if offset is not None:  # slots stand before the window, or at its first zero
                before = torch.arange(-slots, 0, dtype=offset.dtype, device=offset.device)
                if self.config.positions == "arithmetic":
                    before = torch.zeros_like(before)
                offset = torch.cat([before.expand(len(offset), -1), offset], 1)
        mixing = self._mixing(offset, intervene)
        if slots:
            mixing.mask = self._prefix_mask(slots, t, intervene, x.device)
            scale = _on(intervene.scale(t), x.device)
            if scale is not None:
                ones = scale.new_ones(len(scale), slots)
                mixing.scale = torch.cat([ones, scale.expand(-1, t)], 1)
                mixing.memory = torch.arange(slots + t, device=x.device) < slots
        if trace is not None and trace.probabilities:
            mixing.watch = partial(_watch_sequence, trace, slots)
        for block in self.blocks:
            x, _ = block(x, mixing)
            if trace is not None:
                trace.hidden.append(x[:, slots:])
        states, x = x[:, None, :slots], x[:, slots:]
        return self.norm(x if at is None else x[:, at]), states if slots else None

    def _prefix_mask(
        self, slots: int, t: int, intervene: Intervention, device: torch.device
    ) -> Tensor | None:
        kept = intervene.kept(slots, device)
        if kept is None and self.memory_config.mask == "causal":
            return None
        mask = torch.ones(slots + t, slots + t, dtype=torch.bool, device=device).tril()
        if self.memory_config.mask == "leaky":
            mask[:slots] = True
        if kept is not None:  # a slot that is off still sees itself: no row is empty
            column = torch.cat([kept, kept.new_ones(t)])
            mask = mask & (column | torch.eye(slots + t, dtype=torch.bool, device=device))
        return mask

    def _postfix(
        self,
        x: Tensor,
        offset: Tensor | None,
        at: Tensor | None,
        trace: Trace | None,
        intervene: Intervention,
    ) -> tuple[Tensor, Tensor]:
        """Slots after every position asked for, over one pass of the spacings.

        Returns what the head reads, (B, P, width), and the slots' final states, (B, P, M, width).
        """
        assert self.memory is not None
        t = x.shape[1]
        at = torch.arange(t, device=x.device) if at is None else at
        mixing = self._mixing(offset, intervene)
        if trace is not None and trace.probabilities:
            mixing.watch = trace.attention.append
        past = []
        for block in self.blocks:
            x, keys = block(x, mixing)
            past.append(keys)
            if trace is not None:
                trace.hidden.append(x)
        fed = self.memory.slots(intervene)
        if trace is not None:
            trace.slots = fed
        size = len(at) if trace is not None else CHUNK
        parts = [
            self._after(part, fed, past, offset, trace, intervene) for part in torch.split(at, size)
        ]
        states = torch.cat(parts, 1)
        kept = intervene.kept(len(fed), x.device)
        read = self.norm(self.memory.summary(states, kept))
        scale = _on(intervene.scale(t, at), x.device)
        return read if scale is None else read * scale[..., None].to(read), states

    def _after(
        self,
        at: Tensor,
        fed: Tensor,
        past: list[Keys],
        offset: Tensor | None,
        trace: Trace | None,
        intervene: Intervention,
    ) -> Tensor:
        """Final states, (B, P, M, width), of slots that stand where the spacings `at` stand."""
        b, _, t, _ = past[0][0].shape
        p, slots = len(at), len(fed)
        y = fed.to(past[0][0]).repeat(p, 1).expand(b, -1, -1)
        row = at.repeat_interleave(slots)
        if self.position is not None:
            y = y + self.position[row]
        mixing = self._mixing(None if offset is None else offset[:, row], intervene)
        group = torch.arange(p, device=y.device).repeat_interleave(slots)
        own = group[:, None] == group
        kept = intervene.kept(slots, y.device)
        if kept is not None:
            own = own & kept.repeat(p)
        seen = torch.arange(t, device=y.device) <= row[:, None]
        mixing.mask = torch.cat([seen, own], 1)
        if trace is not None and trace.probabilities:
            mixing.watch = partial(_watch_postfix, trace, slots)
        for block, keys in zip(self.blocks, past, strict=True):
            y, _ = block(y, mixing, keys)
        return y.reshape(b, p, slots, -1)


def features(spacing: Tensor, inverted: Tensor) -> Tensor:
    """What a token is told of the inversion after its spacing, at about unit scale.

    The three forecasts, logs of their deviations, how far they lie apart, the misfit, and how far
    the forecasts made one position earlier were from this token's spacing.

    Parameters
    ----------
    spacing : shape (B, T)
    inverted : shape (B, T, 7)

    Returns
    -------
    float32 tensor, shape (B, T, 11)
        Row t depends on rows up to t of both.
    """
    fine, middle, coarse = inverted[..., 0], inverted[..., 2], inverted[..., 4]
    sds = inverted[..., 1:6:2]
    earlier = F.pad(inverted[:, :-1], (0, 0, 1, 0), value=1.0)
    surprise = (spacing[..., None] - earlier[..., 0:4:2]) / earlier[..., 1:4:2]
    parts = [
        (inverted[..., 0:6:2] - 1) / SCALE,
        sds.log() / 4 + 1,
        torch.asinh((middle - fine) / inverted[..., 3])[..., None],
        torch.asinh((coarse - fine) / inverted[..., 5])[..., None],
        (torch.log1p(inverted[..., 6]) / 4 - 1)[..., None],
        torch.asinh(surprise) / 2,
    ]
    return torch.cat(parts, -1).float()


def _watch_sequence(trace: Trace, slots: int, weight: Tensor) -> None:
    trace.attention.append(weight)
    if slots:
        trace.memory_mass.append(weight[:, :, slots:, :slots])


def _watch_postfix(trace: Trace, slots: int, weight: Tensor) -> None:
    b, h, rows, columns = weight.shape
    p = rows // slots
    past, own = torch.split(weight, [columns - rows, rows], -1)
    own = own.reshape(b, h, p, slots, p, slots).diagonal(0, 2, 4).movedim(-1, 2)
    past = past.reshape(b, h, p, slots, -1)
    trace.memory_attention.append(torch.cat([past, own], -1))
    trace.memory_mass.append(own.reshape(b, h, rows, slots))


def _on(scale: Tensor | None, device: torch.device) -> Tensor | None:
    return None if scale is None else scale.to(device)


def nll(forecast: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
    """Negative log-likelihood of `y`, shape (B, T), under a forecast, by logsumexp."""
    log_pi, mu, sigma = forecast
    z = (y[..., None] - mu) / sigma
    return -torch.logsumexp(log_pi - 0.5 * z**2 - sigma.log(), -1) + 0.5 * math.log(2 * math.pi)


def weight_entropy(log_pi: Tensor) -> Tensor:
    """Entropy H(pi) of the mixture weights, shape (..., K) to (...)."""
    return -(log_pi.exp() * log_pi).sum(-1)


@torch.no_grad()
def learn_centroid(model: SpacingMDN, spacing: Tensor, height: Tensor, batch: int = 64) -> None:
    """Store the mean of what the head reads over training windows, and its mean cosine with it.

    For :func:`similarity_gate`; to be called when training is over. Windows (W, T), heights (W,).
    """
    assert model.memory is not None
    t = spacing.shape[1]
    at = torch.arange(t // 2, t, max(t // 16, 1), device=spacing.device)
    states = torch.cat(
        [
            _read(model, spacing[i : i + batch], height[i : i + batch], at)
            for i in range(0, len(spacing), batch)
        ]
    )
    model.memory.centroid.copy_(states.mean((0, 1)))
    cosine = F.cosine_similarity(states, model.memory.centroid, dim=-1)
    model.memory.likeness.copy_(cosine.mean())


@torch.no_grad()
def similarity_gate(model: SpacingMDN, spacing: Tensor, height: Tensor) -> Tensor:
    """Gate (B,) of `Intervention.gate`: how like training the state after each window is.

    The cosine of that state with the training centroid over its mean in training, within 0 ... 1:
    memory is trusted where the model is where it was trained (a remedy of docs/reference.md, 1.2).

    Raises
    ------
    ValueError
        If the model has no memory.
    """
    if model.memory is None:
        raise ValueError("a model without memory has nothing to gate")
    last = torch.tensor([spacing.shape[1] - 1], device=spacing.device)
    state = _read(model, spacing, height, last)[:, 0]
    cosine = F.cosine_similarity(state, model.memory.centroid, dim=-1)
    return (cosine / model.memory.likeness.clamp(min=1e-6)).clamp(0, 1)


def _read(model: SpacingMDN, spacing: Tensor, height: Tensor, at: Tensor) -> Tensor:
    trace = Trace(probabilities=False)
    model(spacing, height, at=at, trace=trace)
    assert trace.read is not None
    return trace.read.float()


def save(model: SpacingMDN, folder: str | Path) -> None:
    """Write `weights.safetensors` and `config.json` into `folder`."""
    with atomic.replacing(folder) as aside:
        aside.mkdir()
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        (aside / "weights.safetensors").write_bytes(safetensors.torch.save(weights))
        config = {
            "model": model.config.model_dump(),
            "memory": model.memory_config.model_dump(),
            "context": model.context,
        }
        atomic.write_json(aside / "config.json", config)


def load(folder: str | Path, known: solution_cache.SolutionCache | None = None) -> SpacingMDN:
    """Load a saved model; no code of the file runs (safetensors).

    `known`: inversions computed before, for a model that starts from them.

    Raises
    ------
    ZetaError
        If a file is missing or damaged, or a tensor is not of the shape the configuration implies.
    """
    folder = Path(folder)
    again = "Run `dvc repro -f train`, or `dvc pull`."
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        model = SpacingMDN(
            params.Model.model_validate(config["model"]),
            params.Memory.model_validate(config["memory"]),
            config["context"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"no model configuration in it ({type(error).__name__})"
        raise ZetaError(path, problem, again) from None
    path = folder / "weights.safetensors"
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        problem = f"cannot be read as safetensors ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, again) from None
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            problem = f"tensor {name}: {_shape(found, name)}, config.json wants "
            raise ZetaError(path, problem + _shape(expected, name), again)
        if not torch.isfinite(weights[name]).all():
            problem = f"tensor {name} holds NaN or infinity, expected finite numbers"
            raise ZetaError(path, problem, again)
    model.load_state_dict(weights)
    if known is not None:
        model.known = known
    return model.eval()


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"shape {shapes[name]}" if name in shapes else "none of that name"
