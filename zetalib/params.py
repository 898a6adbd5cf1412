"""The schema of params.yaml: every parameter, its type, its range and what it means.

Every stage loads and checks the whole file before it does anything, so that a typo in `train`
is reported before `download` runs. YAML is read as DVC reads it (YAML 1.2: 3e-4 is a number).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from zetalib.errors import ZetaError

PARAMS_FILE = Path("params.yaml")

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are errors, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Download(Section):
    """Where zeros come from."""

    source: Literal["odlyzko", "directory"]
    directory: str | None  # folder of zeros_*.dat, for source: directory
    max_zeros: Positive | None  # stop after so many zeros; null: all there are


class Decode(Section):
    """How strictly archive files are read."""

    garbage: Literal["report", "refuse"]  # bytes after a file's last block


class Unfold(Section):
    """How heights become spacings."""

    variant: Literal["A", "B"]


class Window(Section):
    """How spacings become training data."""

    length: Annotated[int, Field(ge=8)]  # spacings in a window
    val_fraction: Fraction  # of all windows, the highest ones
    calibration_fraction: Fraction  # of all windows, those just below the val tail


class Model(Section):
    """SpacingMDN: a causal transformer with a head of K Gaussians."""

    layers: Positive
    heads: Positive
    width: Positive
    lags: Positive  # spacings in a token: 1 as published, more let the first layer act as AR(lags)
    components: Positive  # K
    sigma_floor: Rate  # smallest sigma, in mean spacings
    target: Literal["spacing", "residual"]
    entropy_reg: NotNegative  # loss = NLL - entropy_reg * H(pi)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Model:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Train(Section):
    """AdamW with linear warm-up, then linear decay to zero."""

    seed: Count
    steps: Positive
    batch: Positive  # windows
    lr: Rate
    warmup: Count  # steps
    weight_decay: NotNegative
    beta2: Fraction
    clip: Rate  # largest norm of the gradient
    shift: bool  # cut the windows at a new offset each epoch
    skip_lowest: Annotated[float, Field(ge=0, lt=1)]  # of the training windows, not trained on
    dev_fraction: Fraction  # top of the training windows, for early stopping and curves
    eval_every: Positive  # steps
    patience: Positive | None  # evaluations without a new best before stopping; null: never
    checkpoint_every: Positive  # steps
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    compile: bool
    threads: Positive  # of the CPU; part of the result, to the bit
    usd_per_hour: NotNegative  # for the cost estimate in the log

    @model_validator(mode="after")
    def _warmup_ends(self) -> Train:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be less than steps {self.steps}")
        return self


class Calibrate(Section):
    """Split conformal intervals."""

    levels: Annotated[list[Fraction], Field(min_length=1)]  # nominal coverages


class Evaluate(Section):
    """Scores on the val tail."""

    context: Positive  # spacings a rollout starts from
    horizons: Annotated[list[Positive], Field(min_length=1)]  # steps of a rollout
    trajectories: Annotated[int, Field(ge=100)]
    seed: Count  # of the sampled rollouts


class Distill(Section):
    """Symbolic regression of the forecast from the last k spacings."""

    backend: Literal["auto", "operon", "pysr"]  # auto: PySR when Julia is there
    target: Literal["model", "true"]  # the model's statistic, or the true spacing
    statistic: Annotated[str, Field(pattern=r"^(mean|q0\.\d+)$")]  # of the forecast
    lags: Positive  # k
    samples: Annotated[int, Field(ge=100)]  # targets to fit on
    max_length: Annotated[int, Field(ge=3)]  # nodes of a formula
    evaluations: Positive  # budget of the search
    seed: Count


class Params(Section):
    """All of params.yaml."""

    download: Download
    decode: Decode
    unfold: Unfold
    window: Window
    model: Model
    train: Train
    calibrate: Calibrate
    evaluate: Evaluate
    distill: Distill

    @model_validator(mode="after")
    def _fits_together(self) -> Params:
        length = self.window.length
        if self.window.val_fraction + self.window.calibration_fraction >= 1:
            raise ValueError("window: val_fraction + calibration_fraction must stay below 1")
        if self.evaluate.context >= length:
            raise ValueError(f"evaluate.context must be below window.length {length}")
        if self.model.lags >= length:
            raise ValueError(f"model.lags must be below window.length {length}")
        if self.distill.lags >= length:
            raise ValueError(f"distill.lags must be below window.length {length}")
        return self


def load(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check a parameter file.

    Raises
    ------
    ZetaError
        Naming every bad parameter by its path, with what was expected.
    """
    path = Path(path)
    try:
        content = YAML(typ="safe").load(path.read_text())
    except OSError:
        raise ZetaError(path, "not found", "Run from the root of the repository.") from None
    except YAMLError as error:
        text = " ".join(str(error).split())
        raise ZetaError(path, f"not valid YAML ({text})", "Correct it.") from None
    return check(content, path)


def check(content: Any, path: str | Path = PARAMS_FILE) -> Params:
    """Validate parameters already read; errors as :func:`load`."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_say(e) for e in error.errors())
        raise ZetaError(path, problems, "Nothing was run; correct params.yaml.") from None


def _say(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "params"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown parameter"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if error["type"] == "value_error" else f", got {error['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"
