"""Tokens a second of a training step: our models against a plain GPT block stack of their shape.

    python benchmarks/throughput.py [--rounds 5] [--threads 1] [--compiled] [--batch 8]

The yardstick is written here in the style of nanoGPT: learned positions, LayerNorm, fused causal
attention, 4x MLP, the same embedding of lags and the same mixture head and loss, AdamW. Rounds go
through all models in turn, so that what else the machine does hits them alike; medians over rounds
are printed, and the ratio to the yardstick is the median of the ratios within rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zetalib import params
from zetalib.network.model import SpacingMDN, nll, weight_entropy
from zetalib.training import losses
from zetalib.training.engine import setup
from zetalib.training.optimizers import Optimizers

SHAPE = {"layers": 4, "heads": 4, "width": 128, "inversion": False}  # of the network alone
WARMUP, STEPS = 3, 8  # steps in a round that are not timed, and that are


class PlainBlock(nn.Module):
    """A block of nanoGPT, without bias and dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(width, dim=2)
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Plain(nn.Module):
    """The yardstick: (B, T) spacings to (log_pi, mu, sigma)."""

    def __init__(self, m: params.Model, context: int) -> None:
        super().__init__()
        self.lags = m.lags
        self.embed = nn.Linear(m.lags, m.width)
        self.position = nn.Embedding(context, m.width)
        self.blocks = nn.ModuleList(PlainBlock(m.width, m.heads) for _ in range(m.layers))
        self.norm = nn.LayerNorm(m.width, bias=False)
        self.head = nn.Linear(m.width, 3 * m.components)

    def forward(self, spacing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded = F.pad(spacing - 1, (self.lags - 1, 0))
        x = self.embed(padded.unfold(1, self.lags, 1)) + self.position.weight[: spacing.shape[1]]
        for block in self.blocks:
            x = block(x)
        log_pi, mu, sigma = self.head(self.norm(x)).float().chunk(3, -1)
        return F.log_softmax(log_pi, -1), mu, F.softplus(sigma) + 1e-3


Step = Callable[[], None]


def plain_step(p: params.Params, spacing: Tensor, bf16: bool, compiled: bool) -> Step:
    model = Plain(p.model, spacing.shape[1] - 1).to(spacing.device)
    optimizer = torch.optim.AdamW(model.parameters(), p.train.lr, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        with torch.autocast(spacing.device.type, torch.bfloat16, enabled=bf16):
            forecast = forward(spacing[:, :-1])
            loss = nll(forecast, spacing[:, 1:]).mean() - 0.005 * weight_entropy(forecast[0]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), p.train.clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(p: params.Params, spacing: Tensor, height: Tensor, bf16: bool, compiled: bool) -> Step:
    model = SpacingMDN(p.model, p.memory, spacing.shape[1] - 1).to(spacing.device)
    optimizers = Optimizers(model, p.train, p.memory.lr)
    forward = torch.compile(model) if compiled else model
    generator = torch.Generator()

    def step() -> None:
        with torch.autocast(spacing.device.type, torch.bfloat16, enabled=bf16):
            loss, _ = losses.total(forward, spacing, height, 1, p.losses, generator.manual_seed(0))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), p.train.clip)
        optimizers.step(p.train.lr)
        optimizers.zero_grad()

    return step


def variants(p: params.Params) -> dict[str, params.Params]:
    """Each kind of positions, then each kind of memory on learned positions."""
    found = {}
    for positions in ("learned", "index", "arithmetic"):
        m = p.model.model_copy(update={"positions": positions})
        found[f"positions: {positions}"] = p.model_copy(update={"model": m})
    for kind in ("prefix", "postfix"):
        memory = p.memory.model_copy(update={"kind": kind})
        found[f"memory: {kind}"] = p.model_copy(update={"memory": memory})
    return found


def timed(step: Step, device: torch.device) -> float:
    """Seconds a step."""
    for _ in range(WARMUP):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--compiled", action="store_true", help="compiled steps too: minutes more")
    options = parser.parse_args()
    p = params.load()
    p = p.model_copy(update={"model": p.model.model_copy(update=SHAPE)})
    device = setup(p.train)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    length = p.window.length
    spacing = 1 + 0.4 * torch.randn(options.batch, length, device=device)
    height = torch.full((options.batch,), 1.1e6, dtype=torch.float64, device=device)
    tokens = options.batch * (length - 1)
    m = p.model
    print(
        f"{m.layers} layers, {m.heads} heads, width {m.width}, lags {m.lags}; batch {options.batch}"
        f" x {length - 1}; {device}, {options.threads} threads, torch {torch.__version__};"
        f" median of {options.rounds} interleaved rounds of {STEPS} steps\n"
    )
    print("| model | precision | mode | tokens/s | against plain |\n|---|---|---|---|---|")
    for bf16 in (False, True):
        for compiled in (False, True) if options.compiled else (False,):
            torch.compiler.reset()  # or the models together exceed what it will compile
            steps = {"plain GPT": plain_step(p, spacing, bf16, compiled)}
            for name, variant in variants(p).items():
                steps[name] = our_step(variant, spacing, height, bf16, compiled)
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for _ in range(options.rounds):
                for name, step in steps.items():
                    seconds[name].append(timed(step, device))
            for name, found in seconds.items():
                pairs = zip(seconds["plain GPT"], found, strict=True)
                ratio = statistics.median(plain / ours for plain, ours in pairs)
                print(
                    f"| {name} | {'bfloat16' if bf16 else 'float32'}"
                    f" | {'compiled' if compiled else 'eager'}"
                    f" | {tokens / statistics.median(found):,.0f} | {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
