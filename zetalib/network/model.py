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
from zetalib.data.window import height_offsets
from zetalib.errors import ZetaError
from zetalib.inverse.solutions import Solution, SolutionCache
from zetalib.network.attention import Block, Judged, KVCache, Mixing
from zetalib.network.memory import Intervention, Link, Memory, Statistics
from zetalib.network.positions import Rotary, log_height
from zetalib.network.solution_density import SCALE, Experts, Forecast, Marginal, SolutionDensity
from zetalib.network.trust import log_weights, select, weigh

CHUNK = 32  # positions whose postfix slots attend in one go: their mask grows with the square

# Spacings (B, T) and heights (B,) to solutions, for a model that starts from them; None for others.
Solve = Callable[[Tensor, Tensor], Solution | None]


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
    experts : whose forecasts are weighed, of a model that starts from solutions
    """

    probabilities: bool = True
    slots: Tensor | None = None
    memory: Tensor | None = None
    attention: list[Tensor] = field(default_factory=list)
    memory_attention: list[Tensor] = field(default_factory=list)
    memory_mass: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    read: Tensor | None = None
    experts: Experts | None = None


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
        self.density: SolutionDensity | None = None
        if config.inversion:
            self.density = SolutionDensity(config.sigma_floor)
            self.marginal = Marginal(config.sigma_floor)
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
        if self.density is not None:
            self.density.start()
            self.marginal.start()
        if self.link is not None:
            self.link.start_closed()

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
        solution: Solution | None = None,
        *,
        at: Tensor | None = None,
        trace: Trace | None = None,
        intervene: Intervention | None = None,
        cache: KVCache | None = None,
    ) -> Forecast:
        """Forecast the spacing after every position.

        Parameters
        ----------
        spacing : tensor of type `takes`, shape (B, T), in mean spacings
            With those of `cache` at most `context`.
        height : float64 tensor, shape (B,)
            Of the zero before the first spacing (:func:`zetalib.data.window.rounded_height`).
        solution : fields are float64 tensors, shape (B, T)
            Of the inverse problem after each position: for `config.inversion`, and only then.
        at : int64 tensor, shape (P,)
            Positions to forecast after, counted from the first spacing of the context; None: all T.
        trace : filled with what happens inside
        intervene : what is done to the model's parts
        cache : the context so far, which `spacing` continues and is added to; None: there is none

        Returns
        -------
        log_pi, mu, sigma : tensors of type `takes`, shape (B, T, K), or (B, P, K) with `at`
            Entry t forecasts spacing t + 1 from spacings 0 ... t of its own row; in mean spacings
            whatever `target` is.

        Raises
        ------
        ValueError
            If the context is too long, a solution is missing, or a cache cannot hold what is asked:
            what a leaky mask or an intervention does to earlier rows.
        """
        start = 0 if cache is None else cache.spacings
        end = start + spacing.shape[1]
        whole = self.density is None or self.memory is not None or cache is not None
        if end > self.context and whole:
            raise ValueError(f"{end} spacings given, the model's context is {self.context}")
        if height.shape != spacing.shape[:1]:
            raise ValueError(
                f"{len(spacing)} windows given, heights of shape {tuple(height.shape)}"
            )
        if self.density is not None and solution is None:
            raise ValueError("the model starts from solutions of the inverse problem: give them")
        if cache is not None and (intervene is not None or self.memory_config.mask == "leaky"):
            raise ValueError("what is done to earlier rows cannot be kept in a cache")
        intervene = Intervention() if intervene is None else intervene
        if self.density is None or solution is None:
            return self._network(spacing, height, at, trace, intervene, cache)
        if end > self.context:
            if trace is not None:
                raise ValueError(f"{end} spacings given, a trace is of {self.context} at most")
            alone = self._in_pieces(spacing, height, intervene)
        else:
            alone = self._network(spacing, height, None, trace, intervene, cache)
        experts, weight = self._experts(spacing, solution, alone, cache)
        if at is not None:
            at = at - start
            experts = Experts(*(select(forecast, at) for forecast in experts))
            weight = weight[:, at]
        if trace is not None:
            trace.experts = experts
            if at is not None and trace.read is not None:
                trace.read = trace.read[:, at]
        return weigh(experts, weight)

    def _network(
        self,
        spacing: Tensor,
        height: Tensor,
        at: Tensor | None,
        trace: Trace | None,
        intervene: Intervention,
        cache: KVCache | None,
    ) -> Forecast:
        """What the network says of the spacings alone, as :meth:`forward`."""
        x, offset = self._embedded(spacing, height, cache)
        states: Tensor | None
        if self.memory_config.kind == "postfix":
            read, states = self._postfix(x, offset, at, trace, intervene, cache)
        else:
            read, states = self._sequence(x, offset, at, trace, intervene, cache)
        if cache is not None:
            cache.spacings += spacing.shape[1]
        if trace is not None:
            trace.read = read
            trace.memory = None if states is None else states[:, -1]
        if self.link is not None:
            assert self.memory is not None and states is not None
            kept = intervene.kept(states.shape[2], states.device)
            scale = _on(intervene.scale(spacing.shape[1], at), read.device)
            read = self.link(read, self.memory.summary(states, kept), scale)
        log_pi, mu, sigma = self.head(read).to(self.takes).chunk(3, -1)
        sigma = self.spread * (F.softplus(sigma) + self.config.sigma_floor)
        return F.log_softmax(log_pi, -1), mu + self.centre, sigma

    def _in_pieces(self, spacing: Tensor, height: Tensor, intervene: Intervention) -> Forecast:
        """The network on more spacings than it takes: each row sees half of what it takes or more.

        Heights are not moved on along a window: it is far shorter than what rounding hides.
        """
        t, full = spacing.shape[1], self.context
        ends = [full, *range(2 * full - full // 2, t, full - full // 2), t]
        pieces = torch.stack([spacing[:, end - full : end] for end in ends], 1).flatten(0, 1)
        found = self._network(
            pieces, height.repeat_interleave(len(ends)), None, None, intervene, None
        )
        parts = []
        for part in found:
            by_piece = part.view(len(spacing), len(ends), full, -1)
            new = [by_piece[:, 0]]
            for i in range(1, len(ends)):
                new.append(by_piece[:, i, full - (ends[i] - ends[i - 1]) :])
            parts.append(torch.cat(new, 1))
        log_pi, mu, sigma = parts
        return log_pi, mu, sigma

    def _experts(
        self, spacing: Tensor, solution: Solution, alone: Forecast, cache: KVCache | None
    ) -> tuple[Experts, Tensor]:
        """All forecasts after every position, and their log weights, (B, T, M)."""
        assert self.density is not None
        kept = None if cache is None else cache.judged
        informed, features = self.density(
            spacing,
            solution,
            alone,
            None if kept is None else kept.solution,
            None if kept is None else kept.features,
        )
        experts = Experts(self.marginal(spacing), alone, informed)
        if self.training:  # each learns every target
            even = -math.log(len(experts))
            return experts, spacing.new_full((*spacing.shape, len(experts)), even)
        with torch.no_grad():
            before = None if kept is None else (kept.experts, kept.log_weight)
            weight = log_weights(experts, spacing, self.config.doubt, before)
        if cache is not None:
            last = slice(-1, None)
            cache.judged = Judged(
                solution.at((slice(None), last)),
                features,
                Experts(*(select(forecast, last) for forecast in experts)),
                weight[:, last],
            )
        return experts, weight

    def _embedded(
        self, spacing: Tensor, height: Tensor, cache: KVCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, width) and, for rotary positions, their offsets (B or 1, T)."""
        t, lags = spacing.shape[1], self.config.lags
        start = 0 if cache is None else cache.spacings
        padded = (spacing.float() - self.centre) / SCALE
        if cache is None or cache.recent is None:
            padded = F.pad(padded, (lags - 1, 0))
        else:
            padded = torch.cat([cache.recent, padded], 1)
        if cache is not None:
            cache.recent = padded[:, padded.shape[1] - lags + 1 :]
        x = self.embed(padded.unfold(1, lags, 1))
        if self.position is not None:
            return x + self.position[start : start + t], None
        x = x + self.height(log_height(height))[:, None]
        if self.config.positions == "arithmetic":
            offset = height_offsets(spacing, height)
            if cache is not None:
                offset = offset if cache.offset is None else cache.offset + offset
                cache.offset = offset[:, -1:]
            return x, offset
        return x, torch.arange(start, start + t, dtype=torch.float64, device=spacing.device)[None]

    def _mixing(self, offset: Tensor | None, intervene: Intervention) -> Mixing:
        mixing = Mixing(heads_off=intervene.heads_off)
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
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor | None]:
        """One causal pass over the slots of a prefix, if any, and the spacings.

        Returns what the head reads, (B, P, width), and the slots' final states, (B, 1, M, width).
        """
        b, t = x.shape[:2]
        slots = 0
        if self.memory is not None and (cache is None or cache.length == 0):
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
        x = self._through(x, mixing, trace, cache, slots)
        states: Tensor | None = x[:, None, :slots] if slots else None
        if cache is not None:
            states = cache.states = states if slots else cache.states
        x = x[:, slots:]
        if at is not None:
            x = x[:, at if cache is None else at - cache.spacings]
        return self.norm(x), states

    def _through(
        self,
        x: Tensor,
        mixing: Mixing,
        trace: Trace | None,
        cache: KVCache | None,
        slots: int = 0,
    ) -> Tensor:
        """Rows (B, L, width), the first `slots` of them slots, through all blocks."""
        rows = x.shape[1]
        if cache is not None and cache.length and rows > 1:
            seen = torch.ones(rows, cache.length + rows, dtype=torch.bool, device=x.device)
            mixing.mask = seen.tril(cache.length)
        for block in self.blocks:
            x = block(x, mixing, cache)
            if trace is not None:
                trace.hidden.append(x[:, slots:])
        if cache is not None:
            cache.advance(rows)
        return x

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
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor]:
        """Slots after every position asked for, over one pass of the spacings.

        Returns what the head reads, (B, P, width), and the slots' final states, (B, P, M, width).
        """
        assert self.memory is not None
        start, t = 0 if cache is None else cache.spacings, x.shape[1]
        at = torch.arange(start, start + t, device=x.device) if at is None else at
        mixing = self._mixing(offset, intervene)
        if trace is not None and trace.probabilities:
            mixing.watch = trace.attention.append
        cache = KVCache() if cache is None else cache
        self._through(x, mixing, trace, cache)
        fed = self.memory.slots(intervene)
        if trace is not None:
            trace.slots = fed
        size = len(at) if trace is not None else CHUNK
        parts = [
            self._after(part, start, fed.to(x), cache, offset, trace, intervene)
            for part in torch.split(at, size)
        ]
        states = torch.cat(parts, 1)
        kept = intervene.kept(len(fed), x.device)
        read = self.norm(self.memory.summary(states, kept))
        scale = _on(intervene.scale(t, at), x.device)
        return read if scale is None else read * scale[..., None].to(read), states

    def _after(
        self,
        at: Tensor,
        start: int,
        fed: Tensor,
        cache: KVCache,
        offset: Tensor | None,
        trace: Trace | None,
        intervene: Intervention,
    ) -> Tensor:
        """Final states, (B, P, M, width), of slots that stand where the spacings `at` stand.

        `offset` is that of the spacings from `start` on. Slots are not kept in the cache.
        """
        p, slots = len(at), len(fed)
        y = fed.repeat(p, 1).expand(cache.batch, -1, -1)
        row = at.repeat_interleave(slots)
        if self.position is not None:
            y = y + self.position[row]
        mixing = self._mixing(None if offset is None else offset[:, row - start], intervene)
        group = torch.arange(p, device=y.device).repeat_interleave(slots)
        own = group[:, None] == group
        kept = intervene.kept(slots, y.device)
        if kept is not None:
            own = own & kept.repeat(p)
        seen = torch.arange(cache.length, device=y.device) <= row[:, None]
        mixing.mask = torch.cat([seen, own], 1)
        if trace is not None and trace.probabilities:
            mixing.watch = partial(_watch_postfix, trace, slots)
        for block in self.blocks:
            y = block(y, mixing, cache)
        return y.reshape(cache.batch, p, slots, -1)


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


def solver_of(model: SpacingMDN, cache: SolutionCache | None = None) -> Solve:
    """What solves the inputs of `model`, by `cache`; nothing, if it starts from no solution."""
    if model.density is None:
        return lambda _spacing, _height: None
    kept = SolutionCache() if cache is None else cache

    @torch.no_grad()
    def solve(spacing: Tensor, height: Tensor) -> Solution:
        solution = kept(spacing.detach().cpu().numpy(), height.cpu().numpy())
        return Solution(*(torch.from_numpy(values).to(spacing.device) for values in solution))

    return solve


def nll(forecast: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
    """Negative log-likelihood of `y`, shape (B, T), under a forecast, by logsumexp."""
    log_pi, mu, sigma = forecast
    z = (y[..., None] - mu) / sigma
    return -torch.logsumexp(log_pi - 0.5 * z**2 - sigma.log(), -1) + 0.5 * math.log(2 * math.pi)


def weight_entropy(log_pi: Tensor) -> Tensor:
    """Entropy H(pi) of the mixture weights, shape (..., K) to (...)."""
    return -(log_pi.exp() * log_pi).sum(-1)


@torch.no_grad()
def learn_centroid(
    model: SpacingMDN,
    spacing: Tensor,
    height: Tensor,
    solve: Solve,
    batch: int = 64,
) -> None:
    """Store the mean of what the head reads over training windows, and its mean cosine with it.

    For :func:`similarity_gate`; to be called when training is over. Windows (W, T), heights (W,).
    """
    assert model.memory is not None
    t = spacing.shape[1]
    at = torch.arange(t // 2, t, max(t // 16, 1), device=spacing.device)
    states = torch.cat(
        [
            _read(model, s, h, solve(s, h), at)
            for s, h in zip(torch.split(spacing, batch), torch.split(height, batch), strict=True)
        ]
    )
    model.memory.centroid.copy_(states.mean((0, 1)))
    cosine = F.cosine_similarity(states, model.memory.centroid, dim=-1)
    model.memory.likeness.copy_(cosine.mean())


@torch.no_grad()
def similarity_gate(
    model: SpacingMDN, spacing: Tensor, height: Tensor, solution: Solution | None = None
) -> Tensor:
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
    state = _read(model, spacing, height, solution, last)[:, 0]
    cosine = F.cosine_similarity(state, model.memory.centroid, dim=-1)
    return (cosine / model.memory.likeness.clamp(min=1e-6)).clamp(0, 1)


def _read(
    model: SpacingMDN, spacing: Tensor, height: Tensor, solution: Solution | None, at: Tensor
) -> Tensor:
    trace = Trace(probabilities=False)
    model(spacing, height, solution, at=at, trace=trace)
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


def load(folder: str | Path) -> SpacingMDN:
    """Load a saved model; no code of the file runs (safetensors).

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
    return model.eval()


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"shape {shapes[name]}" if name in shapes else "none of that name"
