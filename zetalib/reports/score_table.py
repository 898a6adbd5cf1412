"""The scores as a table, beside what others reported (docs/reference.md, 1.5 and 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zetalib import atomic
from zetalib.errors import ZetaError

HORIZONS = ("10", "25", "50", "100")

# Reported by the original system's author; "leaky": the forecast saw its own target
# (docs/reference.md, 2.1). None: not reported.
REPORTED: list[tuple[str, str, float, float | None, float | None, list[float | None]]] = [
    ("E0 baseline", "200M", -0.069, 0.188, 0.129, [0.18, 0.20, 0.23, 0.22]),
    ("Memory Q3 (leaky)", "200M", -0.689, 0.125, 0.087, [0.29, 0.53, 1.23, 2.41]),
    ("Flash (leaky)", "200M", -0.712, None, 0.085, [None, None, None, 0.26]),
    ("baseline", "2M", -0.5721, None, 0.0835, [None, None, None, 0.2772]),
]
# Measured on the 2M tail while this project was planned (docs/reference.md, 2.2 and 2.3).
MEASURED = [
    ("least squares AR(64)", "2M", -0.130),
    ("explicit formula, context 256", "2M", -0.67),
]


def read(folder: str | Path) -> dict[str, Any]:
    """All metrics, by stage; ZetaError if the pipeline has not run, or one cannot be read."""
    found = {}
    for path in Path(folder).glob("*.json"):
        if path.name == "summary.json":  # of the others
            continue
        try:
            found[path.stem] = atomic.read_metrics(path)
        except ValueError as error:
            problem = f"no metrics of a stage ({error})"
            raise ZetaError(path, problem, "Run `dvc repro`.") from None
    for name in ("evaluate", "unfold"):
        if name not in found:
            raise ZetaError(Path(folder) / f"{name}.json", "not found", "Run `dvc repro` first.")
    return found


def render(metrics: dict[str, Any]) -> str:
    """The table, the intervals and the formula as text for a terminal."""
    score = metrics["evaluate"]
    constant = score["constant"]
    rows = [["", "zeros", "NLL", "MAE", "CRPS", *(f"Err@{h}" for h in HORIZONS)]]
    zeros = _zeros(metrics["unfold"]["count"] + 1)
    mine = [score["nll"], score["mae"], score["crps"], *_errors(score["err"])]
    rows.append(["this run", zeros, *map(_number, mine)])
    always = [None, constant["mae"], None, *_errors(constant["err"])]
    rows.append(["always 1 (same targets)", zeros, *map(_number, always)])
    for name, rival in metrics.get("baselines", {}).items():
        found = [rival["nll"], rival["mae"], rival["crps"]]
        rows.append([name, zeros, *map(_number, found), *[""] * len(HORIZONS)])
    for name, where, nll in MEASURED:
        rows.append([f"{name} [planning]", where, _number(nll), *[""] * (len(rows[0]) - 3)])
    for name, where, nll, mae, crps, err in REPORTED:
        rows.append([f"{name} [author]", where, *map(_number, [nll, mae, crps, *err])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines += [
        "",
        f"PIT mean/std/KS  {score['pit_mean']:.3f} / {score['pit_std']:.4f} / {score['pit_ks']:.4f}"
        "   (honest: 0.5 / 0.2887 / 0)",
        *(
            f"90% interval     {kind + ':':9s} covers {c['coverage']:.2%} +- {c['se']:.2%}, "
            f"width {c['width']:.3f}, median {c['median_width']:.2g}"
            for kind, c in score["coverage"].get("0.9", {}).items()
        ),
    ]
    if "distill" in metrics:
        lines += _formulas(metrics["distill"])
    return "\n".join(lines)


def _formulas(metrics: dict[str, Any]) -> list[str]:
    """The chosen formulas of each target's first statistic, and whether pi is in them."""
    lines = []
    for target, statistics in metrics["formulas"].items():
        name, sets = next(iter(statistics.items()))
        for features, classes in sets.items():
            for known, f in classes.items():
                lines.append(
                    f"{target}, {name}, {known} known, {features}: "
                    f"R2 {_number(f['r2_model'])} with the model, {_number(f['r2_true'])} with the "
                    f"truth (AR of {f['terms']} terms: {_number(f['ar_r2_true'])})   {f['formula']}"
                )
    return [*lines, f"{metrics['pi']['question']} {metrics['pi']['answer']}"]


def _errors(err: dict[str, float]) -> list[float | None]:
    return [err.get(h) for h in HORIZONS]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _zeros(count: int) -> str:
    return f"{count / 1e6:.0f}M" if count >= 1e6 else f"{count / 1e3:.0f}K"
