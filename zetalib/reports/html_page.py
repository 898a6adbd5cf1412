"""The report page: what the metrics and plot tables of a run say, on one page for a reader.

One HTML file without scripts or links to the network: tables, and figures as inline SVG. A section
whose inputs a run does not have (a control has no primes) is left out.
"""

from __future__ import annotations

import hashlib
import html
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from zetalib.reports.score_table import MEASURED, REPORTED

Tables = dict[str, pd.DataFrame]

WIDE = (9.2, 3.7)  # inches
LEVEL = "0.9"
# Colours of Okabe and Ito, dark to light, each with a dash and a marker: they survive greyscale.
STYLES = [
    ("#000000", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#0072b2", "-.", "^"),
    ("#009e73", ":", "D"),
    ("#cc79a7", (0, (5, 1)), "v"),
    ("#e69f00", (0, (3, 1, 1, 1)), "P"),
    ("#56b4e9", (0, (1, 1)), "X"),
    ("#7f7f7f", (0, (6, 2, 2, 2)), "*"),
    ("#8c6d31", (0, (2, 1, 2, 3)), "h"),
]
STYLE = """
body {font: 16px/1.5 Georgia, serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem}
h1, h2 {font-family: system-ui, sans-serif; line-height: 1.2} h2 {margin-top: 2.5rem}
table {border-collapse: collapse; font: 13px/1.4 system-ui, sans-serif; display: block;
  overflow-x: auto}
th, td {padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #ddd}
td {white-space: nowrap} .text td {white-space: normal}
th:first-child, td:first-child, .text td, .text th {text-align: left; vertical-align: top}
tr.first td {font-weight: bold} figure {margin: 1rem 0} svg {max-width: 100%; height: auto}
figcaption {font-size: 14px; color: #333} code {font-size: 13px} .refuted {font-weight: bold}
"""


def page(metrics: dict[str, Any], plots: Tables) -> str:
    """The page.

    Parameters
    ----------
    metrics : by stage, what it left under `metrics/`
    plots : by path without suffix, the tables under `plots/`, such as "law" or "laws/primes"
    """
    sections: list[tuple[str, Callable[[dict[str, Any], Tables], str]]] = [
        ("How well the next zero is known", _scores),
        ("How predictable the zeros are", _law),
        ("Do intervals cover what they say?", _intervals),
        ("Fed with its own forecasts", _rollout),
        ("The laws of the zeros", _spectra),
        ("The published claims, tested", _claims),
        ("What the network computes", _operator),
        ("Formulas", _formulas),
    ]
    body = []
    for title, write in sections:
        text = write(metrics, plots)
        if text:
            body.append(f"<h2>{title}</h2>\n{text}")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>zetalib: report</title><style>{STYLE}</style></head><body>",
            "<h1>Forecasting the zeros of the Riemann zeta function</h1>",
            _summary(metrics),
            *body,
            "<p>Written by the <code>report</code> stage from <code>metrics/</code> and "
            "<code>plots/</code>; what is measured, and how, is in <code>docs/method.md</code>. "
            "<code>dvc repro</code> makes all of it anew.</p>\n</body></html>\n",
        ]
    )


def draw(
    plot: Callable[..., None], caption: str, size: tuple[float, float] = WIDE, panels: int = 1
) -> str:
    """A figure with its caption; `plot` gets as many axes as there are panels."""
    # Names inside one SVG must differ from those in the others of the page.
    salt = hashlib.sha256(caption.encode()).hexdigest()
    with plt.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 9}):
        figure, axes = plt.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
        plot(*axes[0])
        for each in axes[0]:
            each.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    return f"<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>"


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], text: bool = False, first: bool = False
) -> str:
    """An HTML table; `text` columns are set to the left, the `first` row is set in bold."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"]
    for i, row in enumerate(rows):
        mark = ' class="first"' if first and i == 0 else ""
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row)
        lines.append(f"<tr{mark}>{cells}</tr>")
    return f"<table{' class=text' * text}>\n" + "\n".join(lines) + "\n</table>"


def number(value: float | None, digits: int = 3, error: float | None = None) -> str:
    """A number as text, with its error in the last digits in parentheses; nothing for None."""
    if value is None or not np.isfinite(value):
        return ""
    text = f"{value:.{digits}f}".replace("-", "−")
    return text if error is None else f"{text}({error * 10**digits:.0f})"


def lines(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, error: str | None = None, legend: bool = True
) -> None:
    """One line a series, in the order they come."""
    for (name, part), (color, dash, mark) in zip(
        frame.groupby("series", sort=False), itertools.cycle(STYLES), strict=False
    ):
        sparse = mark if len(part) < 40 else None
        look: dict[str, Any] = {"color": color, "linestyle": dash, "marker": sparse}
        if error and part[error].gt(0).any():
            axes.errorbar(part[x], part[y], part[error], label=name, markersize=4, **look)
        else:
            axes.plot(part[x], part[y], label=name, markersize=4, **look)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def _summary(metrics: dict[str, Any]) -> str:
    skill, ahead = metrics["skill"], metrics["evaluate"]["coverage"][LEVEL]
    mine, others = skill["network"], {k: v for k, v in skill.items() if k != "network"}
    best = min(others, key=lambda name: others[name]["nll"])
    score = f"NLL {number(mine['nll'], 3, mine['nll_se'])} nats a spacing, "
    score += f"mean absolute error {mine['mae']:.4f} of a mean spacing"
    behind = others[best]["behind"]
    return (
        f"<p>From the spacings of its window so far, and the height to three significant digits, "
        f"the forecaster tells the next spacing with {score}, on {mine['targets']:,} targets above "
        f"all it was fitted to. The strongest rival, {html.escape(best)}, is "
        f"{number(behind['nll'], 3, behind['se'])} nats behind. Its 90 % intervals cover "
        f"{ahead['raw']['coverage']:.1%} as forecast and {ahead['adaptive']['coverage']:.1%} after "
        f"adjustment, at a mean width of {ahead['adaptive']['width']:.3f} "
        "(the published ones: 2.51).</p>"
    )


def _scores(metrics: dict[str, Any], plots: Tables) -> str:
    rows: list[list[object]] = []
    for name, s in sorted(metrics["skill"].items(), key=lambda item: item[1]["nll"]):
        rows.append(
            [
                name,
                f"{s['targets']:,}",
                number(s["nll"], 3, s["nll_se"]),
                number(s["crps"], 4, s["crps_se"]),
                number(s["mae"], 4, s["mae_se"]),
                number(s["rmse"], 4, s["rmse_se"]),
                f"{s['pit_mean']:.3f} / {s['pit_std']:.3f} / {s['pit_ks']:.3f}",
                f"{s['coverage']:.1%}",
                number(s["width"]),
                number(1 - s["crps"] / metrics["skill"]["marginal"]["crps"], 2),
            ]
        )
    constant = metrics["evaluate"]["constant"]
    rows.append(["always 1", "", "", "", number(constant["mae"], 4), *[""] * 5])
    empty = [""] * 4
    rows += [
        [f"{name} [planning]", "", number(nll), "", "", *empty, ""] for name, _, nll in MEASURED
    ]
    rows += [
        [f"{name}, {where} [as reported]", "", number(nll), number(crps), number(mae), *empty, ""]
        for name, where, nll, mae, crps, _ in REPORTED
    ]
    head = ["forecaster", "targets", "NLL", "CRPS", "MAE", "RMSE", "PIT mean / std / KS"]
    head += ["90 % covers", "width", "skill"]
    said = (
        "<p>All on the targets of the val tail, by the same code. In parentheses: standard errors "
        "of the last digits, from blocks of consecutive windows. Skill is the share of the "
        "marginal density's CRPS taken away. An honest PIT has 0.5 / 0.289 / 0. Rows "
        "in brackets are from elsewhere; the leaky ones saw their own targets.</p>"
    )
    return said + table(head, rows, first=True)


def _law(metrics: dict[str, Any], plots: Tables) -> str:
    law, longer = plots["law"], plots["contexts"]
    theory = longer["series"] == "primes told apart"
    # Windows tell the rest of what stretches begin with, with smaller errors.
    beyond = longer[~theory & (longer["known"] > law["known"].max())]

    def known(axes: Axes) -> None:
        lines(axes, pd.concat([law, beyond]), "known", "nll", "se")
        bound = longer[theory]
        axes.plot(bound["known"], bound["nll"], color="0.6", linewidth=4, alpha=0.5, zorder=0)
        axes.annotate("primes told apart", (bound["known"].iloc[-1], bound["nll"].iloc[-1]))
        axes.set(xscale="log", xlabel="spacings known", ylabel="NLL (nats a spacing)")

    found = draw(
        known,
        "NLL of the next spacing against how many spacings are known. What looks at nothing is "
        "flat; random matrices stop where arithmetic begins; the primes that a stretch's length "
        "tells apart bound linear forecasts of S at the zeros, not those that use the zeros "
        "exactly. From about 60 zeros on, the inversion's forecasts are right to two digits.",
    )
    rows = [
        {"fifth": int(k) + 1, "nll": part["nll"], "se": part["nll_se"], "series": name}
        for name, s in metrics["skill"].items()
        for k, part in s["by_height"].items()
    ]

    def height(axes: Axes) -> None:
        lines(axes, pd.DataFrame(rows), "fifth", "nll", "se")
        axes.set(xlabel="fifth of the val tail by height", ylabel="NLL (nats a spacing)")
        axes.set_xticks(range(1, 6))

    found += draw(
        height,
        "The same by height, low to high. Forecasters that count by index lose with height what "
        "they learned below; those that know the height do not.",
        (9.2, 3.0),
    )
    if "inversion" in metrics.get("contexts", {}):
        end = metrics["contexts"]["inversion"]
        found += (
            f"<p>Given all but the last of 1024 spacings, the inversion puts "
            f"{end['within_0.0001']:.2%} of {end['targets']:,} next zeros within 10⁻⁴ of a mean "
            f"spacing (median error {end['median_error']:.1g}).</p>"
        )
    return found


def _intervals(metrics: dict[str, Any], plots: Tables) -> str:
    coverage = metrics["evaluate"]["coverage"]
    rows = []
    for level, kinds in coverage.items():
        for kind, c in kinds.items():
            fifths = [
                f"{min(v):.1%} to {max(v):.1%}"
                for v in (
                    [part["coverage"] for part in c[by].values()]
                    for by in ("by_height", "by_width")
                )
            ]
            covers = f"{c['coverage']:.2%} ± {c['se']:.2%}"
            width = [number(c["width"], 4), f"{c['median_width']:.1e}"]
            rows.append([f"{float(level):.0%}", kind, covers, *fifths, *width])
    head = ["level", "interval", "covers", "fifths by height", "fifths by width"]
    said = (
        "<p>Raw: quantiles of the forecast. Split: one conformal adjustment a level. Adaptive: a "
        "factor for each class of predicted width. Online: the factors follow the misses.</p>"
    )
    found = said + table([*head, "mean width", "median width"], rows)

    def calibration(left: Axes, right: Axes) -> None:
        pit = plots["pit"]
        left.fill_between(pit["pit"], pit["low"], pit["high"], color="0.85", label="99 % band")
        left.plot(pit["pit"], pit["density"], color="black", marker="o", markersize=3)
        left.set(xlabel="PIT", ylabel="density", ylim=(0, 1.25))
        left.legend(frameon=False)
        reliable = plots["reliability"]
        right.plot(reliable["nominal"], 100 * reliable["excess"], color="black")
        right.axhline(0, color="0.5", linewidth=0.8)
        right.set(xlabel="probability forecast", ylabel="observed less forecast (points)")

    found += draw(
        calibration,
        "Left: the PIT should be flat, inside the band. Right: how far the observed share of "
        "spacings below a quantile is from what the forecast says.",
        (9.2, 3.0),
        2,
    )
    if "coverage_by_width" in plots:
        by_width = plots["coverage_by_width"]

        def widths(axes: Axes) -> None:
            lines(axes, by_width[by_width["nominal"] == float(LEVEL)], "predicted", "covered", "se")
            axes.axhline(0.9, color="0.5", linewidth=0.8)
            axes.set(xscale="log", xlabel="predicted width (mean spacings)", ylabel="covered")

        found += draw(
            widths,
            "Coverage at 90 % against the width that was predicted, over six orders of magnitude: "
            "an adjustment must hold for the sure forecasts as well as for the unsure ones.",
            (9.2, 3.0),
        )
    return found


def _ahead(found: dict[str, Any]) -> str:
    """Intervals of rollouts, at one level."""
    rows = [
        [h, kind, f"{c['coverage']:.1%}{_error(c['se'])}", f"{c['width']:.2g}"]
        for h, levels in found.items()
        for kind, c in levels.get(LEVEL, {}).items()
    ]
    if not rows:
        return ""
    said = (
        "<p>Where the h-th next zero lies, at 90 %: quantiles of sampled rollouts, as drawn and "
        "with what the calibration split says of each horizon.</p>"
    )
    return said + table(["h", "interval", "covers", "mean width"], rows)


def _law_ahead(found: dict[str, Any]) -> str:
    """Intervals of the law of the zeros ahead."""
    rows = [
        [
            context,
            f"{float(level):.0%}",
            f"{c['coverage']:.1%}",
            f"{c['least']:.1%}–{c['most']:.1%}",
        ]
        + [f"{width:.2g}" for width in c["width"].values()]
        for context, levels in found.items()
        for level, c in levels.items()
    ]
    if not rows:
        return ""
    widths = next(iter(next(iter(found.values())).values()))["width"]
    said = (
        "<p>Where the h-th next zero lies, by the posterior of the inverse problem: the share of "
        "true zeros inside its intervals, over all horizons and at the worst of them.</p>"
    )
    head = ["spacings given", "level", "covers", "by horizon", *(f"width, h = {h}" for h in widths)]
    return said + table(head, rows)


def _error(share: float | None) -> str:
    return "" if share is None else f" ± {share:.1%}"


def _rollout(metrics: dict[str, Any], plots: Tables) -> str:
    found, rows = metrics["evaluate"]["rollout"], []
    horizons = [h for h in next(iter(next(iter(found.values())).values())) if h.isdigit()]
    for context, by_name in found.items():
        for name, cells in by_name.items():
            errors = [number(cells[h]["err"], 3, cells[h]["se"]) for h in horizons]
            rows.append([name, context, cells["trajectories"], *errors])
    for name, where, _, _, _, err in REPORTED:
        reported = dict(zip(("10", "25", "50", "100"), err, strict=True))
        cells = [number(reported.get(h)) for h in horizons]
        rows.append([f"{name}, {where} [as reported]", "", "", *cells])
    said = (
        "<p>Mean |sum of h forecast spacings − sum of h true ones|, in mean spacings, counted from "
        "the end of the context. “There”: on the trajectories the explicit formula was given.</p>"
    )
    head = ["forecaster", "context", "trajectories", *(f"Err@{h}" for h in horizons)]
    text = said + table(head, rows)

    def growth(*panels: Axes) -> None:
        name = plots["rollout"]["series"].str.extract(r"^(.*?)(?:, (\d+))?$")
        frame = plots["rollout"].assign(series=name[0], context=name[1])
        looks = {series: i for i, series in enumerate(next(iter(found.values())))}
        for axes, context in zip(panels, found, strict=True):
            here = frame[frame["context"].eq(context) | frame["context"].isna()]
            here = here.sort_values("series", key=lambda s: s.map(looks), kind="stable")
            lines(axes, here, "h", "err", legend=axes is panels[0])
            axes.set(
                xscale="log", yscale="log", xlabel="steps h", title=f"{context} spacings given"
            )
            axes.set_ylim(1e-6, 1)
        panels[0].set_ylabel("Err@h (mean spacings)")

    text += _ahead(metrics["evaluate"]["ahead"]) + _law_ahead(metrics["evaluate"]["law_ahead"])
    text += draw(
        growth,
        "Error growth. Always saying 1 does not drift: zeros are rigid, and its error is the "
        "square root of the number variance. Whoever knows the low primes stays below it for good.",
        panels=len(found),
    )
    if "statistics" in plots:
        kept = plots["statistics"]
        names = list(kept["statistic"].unique())

        def statistics(*panels: Axes) -> None:
            for axes, name in zip(panels, names, strict=True):
                of = kept[kept["statistic"] == name]
                lines(axes, of, "x", "value", legend=axes is panels[0])
                axes.set(xlabel=name)

        told = (f"{name} {x:.2g}" for name, x in metrics["evaluate"]["kept"].items())
        caption = (
            "Do sampled trajectories keep the statistics of the zeros? Solid and dashed lines "
            f"would lie on one another. Departures in units of GUE's own: {', '.join(told)}."
        )
        text += draw(statistics, caption, (9.2, 2.8), len(names))
    return text


def _spectra(metrics: dict[str, Any], plots: Tables) -> str:
    if "laws" not in metrics:
        return ""

    def theory(axes: Axes, name: str, x: str, y: str) -> None:
        frame = plots[f"laws/{name}"]
        for (record, part), (color, _, mark) in zip(
            frame.groupby("record", sort=False), STYLES, strict=False
        ):
            look: dict[str, Any] = {
                "fmt": mark,
                "color": color,
                "markersize": 2.5,
                "linewidth": 0.8,
            }
            axes.errorbar(part["x"], part["value"], part["error"], label=f"zeros, {record}", **look)
        last = frame[frame["record"] == frame["record"].iloc[0]]
        for law, dash in (("zeros", "-"), ("gue", "--"), ("poisson", ":")):
            if law in last:
                label = {"zeros": "theory with primes", "gue": "GUE", "poisson": "Poisson"}[law]
                axes.plot(last["x"], last[law], dash, color="0.45", linewidth=1.4, label=label)
        axes.set(xlabel=x, ylabel=y)
        axes.legend(frameon=False, fontsize=8)

    def statistics(left: Axes, middle: Axes, right: Axes) -> None:
        theory(left, "number_variance", "interval (mean spacings)", "number variance")
        left.set(xscale="log", ylim=(0.15, 1.0))
        theory(middle, "rigidity", "interval (mean spacings)", "rigidity Δ₃")
        middle.set(xscale="log", ylim=(0, 0.35))
        theory(right, "form_factor", "τ (Heisenberg times)", "form factor K(τ)")
        right.set(ylim=(0, 2.5))

    found = draw(
        statistics,
        "Number variance and rigidity leave GUE for the theory with primes (Berry) as intervals "
        "grow; the form factor shows the lowest primes as lines below τ = 1.",
        (9.2, 3.4),
        3,
    )
    if "laws/primes" in plots:
        peaks = plots["laws/primes"]

        def primes(axes: Axes) -> None:
            axes.vlines(peaks["frequency"], 0, peaks["amplitude"], color="black", linewidth=1)
            theory_look: dict[str, Any] = {
                "color": "#d55e00",
                "markersize": 5,
                "markerfacecolor": "none",
            }
            axes.plot(peaks["frequency"], peaks["theory"], "o", label="theory", **theory_look)
            axes.axhline(0, color="0.5", linewidth=0.8)
            axes.set(xlabel="frequency (radians a unit of height): log q", ylabel="amplitude")
            axes.legend(frameon=False)

        about = metrics["laws"]["peaks"]
        found += draw(
            primes,
            f"The spectrum of the zeros at the {about['powers']} prime powers q that the record "
            "tells apart (lines) against −Λ(q)/√q (circles): the largest departure is "
            f"{about['largest_departure']:.1g}.",
            (9.2, 3.0),
        )
    return found


def _claims(metrics: dict[str, Any], plots: Tables) -> str:
    if "claims" not in metrics:
        return ""
    rows = []
    for claim in metrics["claims"]["claims"]:
        interval = ""
        if claim["low"] is not None:
            interval = f"{number(claim['statistic'])} [{number(claim['low'])}, "
            interval += f"{number(claim['high'])}]"
        p = "" if claim["adjusted"] is None else f"{claim['adjusted']:.2g}"
        said = [claim["statement"], claim["null"], interval, p, claim["verdict"], claim["note"]]
        rows.append(said)
    head = ["published", "null", "statistic [99 %]", "p (Holm)", "verdict", "note"]
    counts = pd.Series([claim["verdict"] for claim in metrics["claims"]["claims"]]).value_counts()
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return f"<p>{told}.</p>" + table(head, rows, text=True)


def _operator(metrics: dict[str, Any], plots: Tables) -> str:
    if "claims" not in metrics:
        return ""
    found = metrics["claims"]["operator"]
    text = f"<p>{html.escape(found['reason'])}</p>" if found["reason"] else ""
    compared = {name: kinds for name, kinds in (found["correlations"] or {}).items() if kinds}
    if compared:
        rows = [
            [name, *(number(kind["value"], 4, kind["se"]) for kind in kinds.values())]
            for name, kinds in compared.items()
        ]
        head = ["the network's mean beside", *next(iter(compared.values()))]
        text += "<p>Correlation of the forecasts over "
        text += f"{found['targets']} late targets of the calibration split.</p>"
        text += table(head, rows)
    if found["layers"]:
        layers = [[part["of"], number(part["r2"]), f"{part['p']:.2g}"] for part in found["layers"]]
        text += (
            "<p>How much of the explicit formula's forecast a linear reader finds in each layer:"
            "</p>"
        )
        text += table(["states", "R², held out", "p"], layers)
    if "claims/gain" in plots:
        gain = plots["claims/gain"]

        def waves(axes: Axes) -> None:
            axes.plot(gain["frequency"], gain["missed"], color="black")
            for prime in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
                axes.axvline(np.log(prime), color="0.7", linestyle=":", linewidth=0.8)
            axes.set(yscale="log", xlabel="frequency (radians a unit of height); dots: log p")
            axes.set(ylabel="share of a wave missed")

        caption = "What the network itself, its inputs given, misses of a wave in the density of "
        caption += "zeros. A network that had learned primes by itself would dip at the dots."
        text += draw(waves, caption, (9.2, 3.0))
    return text


def _formulas(metrics: dict[str, Any], plots: Tables) -> str:
    if "distill" not in metrics:
        return ""
    found, rows = metrics["distill"], []
    for target, statistics in found["formulas"].items():
        for features, classes in statistics.get("mean", {}).items():
            for known, f in classes.items():
                r2 = [number(f["r2_model"]), number(f["r2_true"]), number(f["nll"])]
                ar = [number(f["ar_r2_true"]), number(f["ar_nll"])]
                rows.append([target, known, features, f["formula"], *r2, *ar])
    head = [
        "of",
        "known",
        "features",
        "formula",
        "R² model",
        "R² truth",
        "NLL",
        "AR: R²",
        "AR: NLL",
    ]
    text = "<p>Means, on the tail; AR has as many terms.</p>" + table(head, rows, text=True)
    pi = found["pi"]
    rows = [
        [series, rule, f"{number(c['value'], 4)} [{number(c['low'], 4)}, {number(c['high'], 4)}]"]
        for series, rules in pi["constants"].items()
        for rule, c in rules.items()
    ]
    text += f"<p><b>{html.escape(pi['question'].capitalize())} {html.escape(pi['answer'])}.</b> "
    text += "The constant c of c / (s₁ + s₂ + s₃) by what it is fitted to, and how:</p>"
    return text + table(["fitted to", "rule", "c [99 %]"], rows, text=True)
