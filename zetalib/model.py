"""SpacingMDN: a causal transformer from spacings to a mixture of Gaussians for the next one.

REFERENCE id E0. Token t sees the last `lags` spacings s_{t-lags+1} ... s_t of the window (1 as
published; with more, the first layer alone can act as the linear predictor AR(lags)); learned
positions are added; pre-norm blocks of causal attention and a 4x MLP follow; the head gives

    p(s_{t+1} | s_1 ... s_t) = sum_k pi_k N(mu_k, sigma_k)

with pi by softmax and sigma by softplus + floor.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from zetalib import atomic, params
from zetalib.errors import ZetaError

SCALE = 0.41  # std of spacings: inputs reach the network at unit scale


Forecast = tuple[Tensor, Tensor, Tensor]  # log_pi, mu, sigma, each (B, P, K)


@dataclass
class Trace:
    """What happened inside a forward pass, for losses and diagnostics; filled by the model.

    Attributes
    ----------
    slots : (M, width)
        Slots as fed: content and ID.
    memory : (B, M, width) or None
        Final memory states; postfix: of the last position asked for.
    attention : list of (B, H, Q, K), one a layer
        Probabilities. Rows and columns: the slots of a prefix, then the spacings.
    memory_attention : list of (B, H, P, M, T + M)
        Postfix only: rows are the slots of each position, columns the spacings, then the slots.
    memory_mass : list of (B, H, Q, M)
        Attention that each row which forecasts gives each slot: spacings of a prefix model
        (Q = T), slots of a postfix model (Q = P M).
    hidden : list of (B, T, width)
        Spacings' states after each block.
    """

    slots: Tensor | None = None
    memory: Tensor | None = None
    attention: list[Tensor] = field(default_factory=list)
    memory_attention: list[Tensor] = field(default_factory=list)
    memory_mass: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Intervention:
    """What is done to a model's parts in a forward pass: ablations and rollout remedies.

    Attributes
    ----------
    slots_off : slots that nothing attends to or reads
    heads_off : (layer, head) whose output is zero
    permute : slot i gets the ID of slot permute[i]
    only : slots are their IDs alone, or their content alone
    fade : scale of what memory contributes
    gate : (B,) or (B, T)
        A scale of the same kind for each window, or each position in it.
    """

    slots_off: tuple[int, ...] = ()
    heads_off: tuple[tuple[int, int], ...] = ()
    permute: tuple[int, ...] | None = None
    only: Literal["ids", "content"] | None = None
    fade: float = 1.0
    gate: Tensor | None = None


class Attention(nn.Module):
    """Multi-head causal self-attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width); row t depends on rows up to t only."""
        b, t, width = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(b, t, width)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class SpacingMDN(nn.Module):
    """The forecaster.

    Parameters
    ----------
    config : zetalib.params.Model
    memory : zetalib.params.Memory
    context : int
        Longest input: window length - 1.
    """

    def __init__(self, config: params.Model, memory: params.Memory, context: int) -> None:
        super().__init__()
        if config.positions != "learned" or memory.kind != "none":
            raise NotImplementedError("to come")
        self.config, self.memory_config, self.context = config, memory, context
        width = config.width
        self.embed = nn.Linear(config.lags, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, 3 * config.components)
        self._initialise()

    def _initialise(self) -> None:
        config, k = self.config, self.config.components
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(config.lags))
        nn.init.normal_(self.position, std=0.02)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                # Residual branches start small (GPT-2).
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * config.layers))
        with torch.no_grad():  # components start spread over the support of a spacing
            self.head.bias[k : 2 * k] = torch.linspace(0.2, 2.0, k) - self.centre
            self.head.bias[2 * k :] = -1.0

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
    ) -> Forecast:
        """Forecast the spacing after every position.

        Parameters
        ----------
        spacing : float32 tensor, shape (B, T), T <= context, in mean spacings

        height : float64 tensor, shape (B,)
            Of the zero before the first spacing, rounded (:func:`zetalib.window.rounded_height`).
        at : int64 tensor, shape (P,)
            Positions to forecast after; None: all T of them.
        trace : filled with what happens inside
        intervene : what is done to the model's parts

        Returns
        -------
        log_pi, mu, sigma : float32 tensors, shape (B, T, K), or (B, P, K) with `at`
            Entry t forecasts spacing t + 1 from spacings 0 ... t of its own row; in mean spacings
            whatever `target` is.
        """
        t = spacing.shape[1]
        if t > self.context:
            raise ValueError(f"{t} spacings given, the model's context is {self.context}")
        lags = self.config.lags
        padded = F.pad((spacing - self.centre) / SCALE, (lags - 1, 0))
        x = self.embed(padded.unfold(1, lags, 1)) + self.position[:t]
        for block in self.blocks:
            x = block(x)
        if at is not None:
            x = x[:, at]
        log_pi, mu, sigma = self.head(self.norm(x)).float().chunk(3, -1)
        sigma = F.softplus(sigma) + self.config.sigma_floor
        return F.log_softmax(log_pi, -1), mu + self.centre, sigma


def nll(forecast: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
    """Negative log-likelihood of `y`, shape (B, T), under a forecast, by logsumexp."""
    log_pi, mu, sigma = forecast
    z = (y[..., None] - mu) / sigma
    return -torch.logsumexp(log_pi - 0.5 * z**2 - sigma.log(), -1) + 0.5 * math.log(2 * math.pi)


def weight_entropy(log_pi: Tensor) -> Tensor:
    """Entropy H(pi) of the mixture weights, shape (..., K) to (...)."""
    return -(log_pi.exp() * log_pi).sum(-1)


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
    model.load_state_dict(weights)
    return model.eval()


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"shape {shapes[name]}" if name in shapes else "none of that name"
