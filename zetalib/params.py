"""The schema of params.yaml: every parameter, its type, its range and what it means.

Every stage loads and checks the whole file before it does anything, so that a typo in `train`
is reported before `download` runs. YAML is read as DVC reads it (YAML 1.2: 3e-4 is a number).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from zetalib import shares
from zetalib.errors import ZetaError

PARAMS_FILE = Path("params.yaml")

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(knots: list[list[float]]) -> list[list[float]]:
    steps = [step for step, _ in knots]
    if any(a > b for a, b in itertools.pairwise(steps)):
        raise ValueError("steps of a ramp must not decrease")
    return knots


Knot = Annotated[list[NotNegative], Field(min_length=2, max_length=2)]  # step, weight
Knots = Annotated[list[Knot], Field(min_length=1), AfterValidator(_ascending)]
Ramp = Annotated[
    Annotated[NotNegative, Tag("weight")] | Annotated[Knots, Tag("ramp")],
    Discriminator(lambda value: "ramp" if isinstance(value, list) else "weight"),
]


Source = Literal[
    "odlyzko",
    "directory",
    "table",
    "lmfdb",
    "exact",
    "siegel",
    "gue",
    "poisson",
    "shuffled",
    "primes",
]
Statistic = Annotated[str, Field(pattern=r"^(mean|q0\.\d+)$")]
STATISTICS = 8  # numbers that describe a window, for losses.statistics
CONTROLS = ("gue", "poisson", "shuffled", "primes")  # sources whose points are not zeta's zeros


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Compute(Section):
    """Who works. No result depends on it, so no stage lists it among its parameters."""

    scheduler: Annotated[str, Field(pattern=r"^(threads|tcp://\S+:\d+)$")]  # tcp://: of Dask
    workers: Positive | None  # threads, or tasks in flight on a cluster; null: one a core


class Download(Section):
    """Where zeros come from."""

    source: Source
    directory: str | None  # folder of zeros_*.dat, for source: directory
    table: str | None  # file of heights, for source: table
    base: Count | None  # table: to be added to its heights; null: as the table says, or nothing
    max_zeros: Positive | None  # stop after so many zeros; null: all there are
    # siegel, table: rank of the first zero; null: 1, or from_height or the table decides.
    first_rank: Positive | None
    from_height: NotNegative | None  # siegel: take zeros above this height; null: from the first
    to_height: Rate | None  # exact, siegel: take zeros up to this height; null: max_zeros decides
    seed: Count  # gue, poisson, shuffled
    url: Annotated[str, Field(pattern=r"^https?://.+/$")]  # lmfdb: the archive, or a mirror of it
    proxy: str | None  # lmfdb: http://host:port; null: as the environment says
    connections: Annotated[int, Field(ge=1, le=8)]  # lmfdb: at a time
    retries: Count  # lmfdb: of a request, with growing pauses
    timeout: Rate  # lmfdb: seconds without a byte before a request counts as failed

    @model_validator(mode="after")
    def _range_is_one(self) -> Download:
        if self.first_rank is not None and self.from_height is not None:
            raise ValueError("give first_rank or from_height, not both")
        if self.max_zeros is not None and self.to_height is not None:
            raise ValueError("give max_zeros or to_height, not both")
        if self.to_height is not None and (self.from_height or 0.0) >= self.to_height:
            raise ValueError(f"from_height {self.from_height} is not below {self.to_height}")
        needs = {"exact": ("to_height",), "siegel": ("max_zeros", "to_height")}.get(self.source)
        if needs and all(getattr(self, name) is None for name in needs):
            raise ValueError(f"source {self.source} needs {' or '.join(needs)}")
        if self.source == "table" and self.table is None:
            raise ValueError("source table needs table, the file of heights")
        users = {
            "directory": ("directory",),
            "table": ("table",),
            "base": ("table",),
            "first_rank": ("siegel", "table"),
            "from_height": ("siegel",),
            "to_height": ("exact", "siegel"),
        }
        for name, sources in users.items():
            if getattr(self, name) is not None and self.source not in sources:
                raise ValueError(f"{name} means nothing to source {self.source}; leave it blank")
        return self


class Decode(Section):
    """How strictly archive files are read."""

    garbage: Literal["report", "refuse"]  # bytes after a file's last block


class Unfold(Section):
    """How heights become spacings."""

    variant: Literal["A", "B"]


class Verify(Section):
    """The gate between the zeros and everything that trusts them."""

    zeta: bool | None  # count and recompute as zeros of zeta; null: unless the source is a control
    recompute: Annotated[float, Field(ge=0, le=1)]  # share of the zeros computed anew to compare
    tolerance: Rate  # largest distance from the recomputed zero, in mean spacings
    max_spacing: Rate  # a larger spacing is a fault


class Window(Section):
    """How spacings become training data."""

    length: Annotated[int, Field(ge=8)]  # spacings in a window
    val_fraction: Fraction  # of all windows, the highest ones
    calibration_fraction: Fraction  # of all windows, those just below the val tail


class Invert(Section):
    """How the zeros of windows are solved as an inverse problem (zetalib.inverse)."""

    solve: bool  # false: for none
    skip_lowest: Annotated[float, Field(ge=0, lt=1)]  # of the training windows, not solved
    # Standard deviation of the zeros' places, in mean spacings; null: estimated for each window.
    noise: Rate | None


class Model(Section):
    """A causal transformer with a head of K Gaussians: one network, its parts chosen apart."""

    layers: Positive
    heads: Positive
    width: Positive
    lags: Positive  # spacings in a token: 1 as published, more let the first layer act as AR(lags)
    positions: Literal["learned", "index", "arithmetic"]  # learned, rotary by index, by log p
    # Of arithmetic positions: log p, learned from log p, random, learned from random.
    frequencies: Literal["fixed", "learnable", "random", "learnable_random"]
    primes: Count  # arithmetic: rotary pairs at log p; the others form a geometric ladder
    components: Positive  # K
    sigma_floor: Rate  # smallest sigma, in mean spacings
    target: Literal["spacing", "residual"]
    inversion: bool  # densities about the forecasts of zetalib.inverse, beside the network's own
    # With inversion: share of the weight of all forecasts that is dealt out evenly after each
    # spacing, however they did (zetalib.network.trust).
    doubt: Annotated[float, Field(gt=0, lt=1)]
    entropy_reg: NotNegative  # loss = NLL - entropy_reg * H(pi)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Model:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.positions != "learned" and self.width // self.heads % 2:
            raise ValueError(f"rotary positions need heads of even width, not {self.width}")
        if self.positions == "arithmetic" and self.primes > self.width // 2:
            raise ValueError(f"{self.primes} primes do not fit {self.width // 2} rotary pairs")
        if self.positions != "arithmetic" and self.frequencies != "fixed":
            raise ValueError("frequencies are chosen for positions: arithmetic only")
        return self


class Memory(Section):
    """Learned slots beside the spacings (docs/reference.md, 1.2)."""

    kind: Literal["none", "prefix", "postfix"]  # postfix: the forecast is made from slots alone
    slots: Positive
    mask: Literal["causal", "leaky"]  # leaky: slots see the whole window, as published in Q3
    ids: Literal["fixed", "off", "permute_per_batch"]  # permuted in training only
    content: Literal["normal", "zeroed"]  # zeroed: a slot is its ID alone
    norm: Rate | None  # slots are projected to at most this norm after each step
    dropout: Annotated[float, Field(ge=0, lt=1)]  # share of slots off in a training step
    link: Literal["none", "film", "gate", "readout"]  # from memory states to the head
    lr: Rate  # of train.lr
    positions: Positive  # postfix: forecasts a window in a training step

    @model_validator(mode="after")
    def _means_something(self) -> Memory:
        if self.mask == "leaky" and self.kind != "prefix":
            raise ValueError("mask: leaky is of kind: prefix only")
        if self.kind == "none" and self.link != "none":
            raise ValueError("a link needs a memory")
        if self.ids == "off" and self.content == "zeroed":
            raise ValueError("slots with neither IDs nor content are nothing")
        return self


class Losses(Section):
    """What is added to the NLL. A weight is a number or a ramp [[step, weight], ...]."""

    diversity: Ramp  # mean((Gram - 1)^2) of the slots
    orthogonality: Ramp  # mean squared cosine between final memory states
    attention_entropy: Ramp  # log(slots) - H(share of the slots' attention)
    mass_cap: Ramp  # sum of slots' attention above mass_limit
    mass_limit: Share  # of all attention
    statistics: Ramp  # memory states tell the window's statistics
    invariants: Literal["window", "q3"]  # which statistics
    aux_loss: Literal["mse", "huber"]  # on z-scored statistics
    diagonal: bool  # slot i tells statistic i only
    drift: Ramp  # |cumulative predicted - cumulative true| of rollouts
    drift_every: Positive  # steps
    drift_horizon: Positive  # steps of a rollout; also of own_rollout
    drift_batch: Positive  # windows
    own_rollout: Share  # training steps whose inputs end in the model's own samples
    roles: Ramp  # attention to slot i follows statistic i

    def weights(self) -> dict[str, Any]:
        """The ramps by name, for losses that need a memory and for drift."""
        return {name: value for name, value in self if name in _RAMPS}


_RAMPS = (
    "diversity",
    "orthogonality",
    "attention_entropy",
    "mass_cap",
    "statistics",
    "drift",
    "roles",
)


class Train(Section):
    """The training engine."""

    seed: Count
    steps: Positive  # of the optimizer; with max_minutes the clock decides instead
    max_minutes: Rate | None  # a budget of time, which the schedule follows; null: steps decide
    clock: Literal["wall", "cpu"]  # cpu: time on the cores, all together; fair on a busy machine
    batch: Positive  # windows in a step, over all processes
    accumulate: Positive  # parts in which each process works through its share of the batch
    shift: bool  # cut the windows at a new offset each epoch
    skip_lowest: Annotated[float, Field(ge=0, lt=1)]  # of the training windows, not trained on
    dev_fraction: Fraction  # top of the training windows, for early stopping and curves
    data: Literal["auto", "device", "mmap"]  # where windows are kept; batches are the same
    optimizer: Literal["adamw", "muon"]  # muon: for the matrices of the blocks
    lr: Rate
    schedule: Literal["linear", "cosine", "constant", "wsd"]  # after warm-up; wsd: last fifth falls
    warmup: Count  # steps
    weight_decay: NotNegative
    beta2: Fraction
    clip: Rate  # largest norm of the gradient
    ema: Annotated[float, Field(ge=0, lt=1)]  # decay of the mean of the weights; 0: the last ones
    eval_every: Positive  # steps
    rescale: bool  # at the end, all sigma by the factor that is best on the dev slice
    patience: Positive | None  # evaluations without a new best before stopping; null: never
    checkpoint_every: Positive  # steps
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    compile: bool
    threads: Positive  # of the CPU, for each process; part of the result, to the bit
    processes: Positive  # of this machine, for data-parallel training; one GPU each
    live: bool  # DVCLive in data/live while training runs
    wandb: Literal["off", "offline", "online"]
    usd_per_hour: NotNegative  # for the cost estimate in the log

    @model_validator(mode="after")
    def _fits_together(self) -> Train:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be less than steps {self.steps}")
        parts = self.processes * self.accumulate
        if self.batch % parts:
            raise ValueError(f"batch {self.batch} is no multiple of processes x accumulate {parts}")
        return self


class Calibrate(Section):
    """Conformal intervals."""

    levels: Annotated[list[Fraction], Field(min_length=1)]  # nominal coverages
    classes: Positive  # of predicted width, each with a factor of its own; fewer where too small
    step: Rate  # online: of the logarithm of a factor after a miss
    # Where the h-th next zero lies: sampled rollouts, at the horizons of evaluate up to `ahead`.
    ahead: Positive
    contexts: Annotated[int, Field(ge=10)]  # inversion: that the law of zeros ahead is fitted to
    trajectories: Positive
    draws: Annotated[int, Field(ge=2)]  # of each trajectory

    @model_validator(mode="after")
    def _enough_trajectories(self) -> Calibrate:
        least = shares.least(max(self.levels))
        if self.trajectories < least:
            raise ValueError(f"level {max(self.levels)} needs at least {least} trajectories")
        return self


class Evaluate(Section):
    """Scores on the val tail."""

    contexts: Annotated[list[Positive], Field(min_length=1)]  # spacings rollouts start from
    horizons: Annotated[list[Positive], Field(min_length=1)]  # steps of a rollout
    trajectories: Annotated[int, Field(ge=100)]
    explicit: Count  # of them also forecast by the explicit formula, which is dear
    seed: Count  # of the sampled rollouts
    fade: Annotated[float, Field(ge=0, le=1)]  # of memory from one rollout step to the next
    gate: bool  # in rollouts: memory by similarity of the hidden state to the training centroid


class Distill(Section):
    """Symbolic regression of the forecast, and of the truth, from the past of the window."""

    backend: Literal["auto", "operon", "pysr"]  # auto: PySR where it has been set up
    targets: Annotated[list[Literal["model", "truth"]], Field(min_length=1)]
    statistics: Annotated[list[Statistic], Field(min_length=1)]  # of the target given the past
    features: Annotated[list[Literal["spacings", "primes"]], Field(min_length=1)]
    known: Annotated[list[Positive], Field(min_length=1)]  # spacings known where classes begin
    lags: Positive  # spacings: the last k
    primes: Positive  # primes: C_p and S_p of so many, beside the last spacing
    samples: Annotated[int, Field(ge=100)]  # targets to fit on
    max_length: Annotated[int, Field(ge=3)]  # nodes of a formula
    evaluations: Positive  # budget of each search
    seed: Count


class Diagnose(Section):
    """What the forecaster is made of, on the calibration split."""

    windows: Annotated[int, Field(ge=8)]  # evenly spread over the split
    positions: Annotated[int, Field(ge=4)]  # targets in a window, evenly spread
    horizon: Annotated[int, Field(ge=2)]  # steps of the rollouts whose drift is measured
    trajectories: Positive
    permutations: Annotated[int, Field(ge=20)]  # of windows, for the null of the slot probe
    seed: Count  # of those


Skipped = Annotated[float, Field(ge=0, lt=1)]


class Baselines(Section):
    """Forecasters that are no networks, on the same targets."""

    skip_lowest: Annotated[float, Field(ge=0, lt=1)]  # of the training windows, not fitted to
    ar_orders: Annotated[list[Positive], Field(min_length=1)]  # the best in the training range wins
    ar_skips: Annotated[list[Skipped], Field(min_length=1)]  # instead of skip_lowest, as above
    height_places: Annotated[list[Positive], Field(min_length=1)]  # of AR in height, as above
    gaps: Positive  # that the sine process looks back on
    explicit_every: Positive  # of so many windows one is forecast by the explicit formula
    block: Positive  # windows in a block of the bootstrap


Stretches = Annotated[list[Positive], Field(min_length=2, max_length=2)]  # context, how many


class Contexts(Section):
    """Longer contexts than a window, for forecasters that are no networks."""

    explicit: list[Stretches]  # of the explicit formula
    inversion: Stretches
    targets: Positive  # of each stretch, its last spacings


class Laws(Section):
    """Spectra, published claims and the operator the network is."""

    zeros: Annotated[int, Field(ge=1000)]  # of the top of the training range
    limit: Annotated[int, Field(ge=3)]  # prime powers whose peaks are looked for, if resolved
    windows: Annotated[int, Field(ge=8)]  # of the calibration split, for the network's operator
    trajectories: Positive  # rollouts whose autocorrelation is held against the zeros'
    horizon: Annotated[int, Field(gt=10)]  # their steps
    seed: Count  # of nulls and rollouts


class Params(Section):
    """All of params.yaml."""

    compute: Compute
    download: Download
    decode: Decode
    unfold: Unfold
    verify: Verify
    window: Window
    invert: Invert
    model: Model
    memory: Memory
    losses: Losses
    train: Train
    calibrate: Calibrate
    evaluate: Evaluate
    distill: Distill
    diagnose: Diagnose
    baselines: Baselines
    contexts: Contexts
    laws: Laws

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        length = self.window.length
        if self.window.val_fraction + self.window.calibration_fraction >= 1:
            raise ValueError("window: val_fraction + calibration_fraction must stay below 1")
        if max(self.evaluate.contexts) >= length:
            raise ValueError(f"evaluate.contexts must be below window.length {length}")
        if self.evaluate.explicit > self.evaluate.trajectories:
            raise ValueError("evaluate.explicit must not be above evaluate.trajectories")
        if self.model.lags >= length:
            raise ValueError(f"model.lags must be below window.length {length}")
        used = [name for name, ramp in self.losses.weights().items() if ramp != 0.0]
        if self.memory.kind == "none" and set(used) - {"drift"}:
            raise ValueError(f"losses.{used[0]} needs a memory")
        if (self.losses.diagonal or "roles" in used) and self.memory.slots < STATISTICS:
            raise ValueError(f"losses: one slot a statistic needs {STATISTICS} memory.slots")
        rolls = self.losses.own_rollout > 0 or "drift" in used
        if self.memory.kind == "none" and (self.evaluate.fade != 1.0 or self.evaluate.gate):
            raise ValueError("evaluate.fade and evaluate.gate need a memory")
        if rolls and self.losses.drift_horizon + self.model.lags >= length:
            raise ValueError(f"losses.drift_horizon leaves no context of window.length {length}")
        if self.model.inversion and rolls:
            raise ValueError("losses on rollouts are not for model.inversion: each step is a solve")
        if self.model.inversion and not self.invert.solve:
            raise ValueError("model.inversion needs invert.solve")
        if self.model.inversion and self.train.shift:
            raise ValueError(
                "train.shift must be false with model.inversion: it solves windows once"
            )
        if self.model.inversion and self.train.skip_lowest < self.invert.skip_lowest:
            raise ValueError("train.skip_lowest is below invert.skip_lowest: windows not solved")
        if self.unfold.variant == "A" and (needed := self._of_variant_b()):
            raise ValueError(
                f"unfold.variant must be B for {', '.join(needed)}: they take spacings for "
                "increments of the count of zeros; A is for data (dvc repro window) and networks "
                "without any of these"
            )
        starts = self.distill.known
        if (
            sorted(set(starts)) != starts
            or not self.distill.lags <= starts[0] <= starts[-1] < length
        ):
            problem = "must ascend, from distill.lags or more to below window.length"
            raise ValueError(f"distill.known {problem} {length}")
        return self

    def _of_variant_b(self) -> list[str]:
        """Parameters that are on and turn spacings into heights, or heights into spacings."""
        on = {
            "model.inversion": self.model.inversion,
            "invert.solve": self.invert.solve,
            "model.positions": self.model.positions == "arithmetic",
            "evaluate.explicit": self.evaluate.explicit > 0,
            "distill.features primes": "primes" in self.distill.features,
        }
        return [name for name, is_on in on.items() if is_on]


def load(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    ZetaError
        Naming every bad parameter by its path, with what was expected.
    """
    return check(read(path), path)


def read(path: str | Path) -> Any:
    """What a YAML file says.

    Raises
    ------
    ZetaError
        If it cannot be read, is no UTF-8 or no YAML; naming the line.
    """
    path = Path(path)
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ZetaError(path, "not found", "Run from the root of the repository.") from None
    except OSError as error:
        raise ZetaError(path, f"cannot be read ({error.strerror})", "Correct that.") from None
    except UnicodeDecodeError as error:
        problem = f"not UTF-8, as YAML must be (0x{error.object[error.start]:02x})"
        raise ZetaError(path, problem, "Save it as UTF-8.", offset=error.start) from None
    except YAMLError as error:
        text = " ".join(str(error).split())
        if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
            text = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise ZetaError(path, f"not valid YAML ({text})", "Correct it.") from None


def check(content: Any, path: str | Path = PARAMS_FILE) -> Params:
    """Validate parameters already read, and that what they ask for is here; errors as `load`."""
    try:
        found = Params.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_say(e) for e in error.errors())
        raise ZetaError(path, problems, "Nothing was run; correct params.yaml.") from None
    for parameter, problem, remedy in missing(found):
        raise ZetaError(f"{path}: {parameter}", problem, f"Nothing was run. {remedy}")
    return found


def missing(found: Params) -> list[tuple[str, str, str]]:
    """What is asked for and not on this machine: parameter, problem, remedy. Imports none of it."""
    lacks = []
    if found.distill.backend == "pysr" and not installed("pysr"):
        problem = "pysr asked for, and the package is not installed"
        # No word of Julia: PySR's juliapkg finds one, or downloads it at the first import.
        remedy = "pip install -e '.[pysr]' (it brings its own Julia), or set it to auto."
        lacks.append(("distill.backend", problem, remedy))
    if found.train.wandb != "off" and not installed("wandb"):
        problem = f"{found.train.wandb} asked for, and the package wandb is not installed"
        lacks.append(("train.wandb", problem, "pip install -e '.[wandb]', or set it to off."))
    if found.train.device == "cuda" and not has_driver():
        problem = "cuda asked for, and there is no driver of a GPU, or torch is built without"
        lacks.append(
            ("train.device", problem, "Set it to auto, which takes a GPU if there is one.")
        )
    return lacks


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not."""
    return importlib.util.find_spec(package) is not None


def has_driver() -> bool:
    """Whether torch may find a GPU: False is certain, True is not. Does not import torch."""
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
        ctypes.CDLL("libcuda.so.1")
    except (importlib.metadata.PackageNotFoundError, OSError):
        return Path("/dev/kfd").exists()  # ROCm, which torch calls cuda too
    return True


def _say(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "params"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown parameter"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if error["type"] == "value_error" else f", got {error['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"
