"""The dozen numbers that runs are compared by: what `dvc metrics diff` and `dvc exp show` print."""

from __future__ import annotations

from typing import Any

LEVEL = "0.9"
HORIZONS = ("10", "50", "100")
DIGITS = 5  # significant ones: more are noise between runs


def summarise(metrics: dict[str, Any], skill: dict[str, Any]) -> dict[str, float]:
    """Headline numbers of an evaluation.

    Parameters
    ----------
    metrics, skill : as the evaluate stage leaves them in metrics/evaluate.json and skill.json

    Returns
    -------
    dict
        `nll` in nats with its standard error `nll_se`, `rival_nll` of the best forecaster that is
        no network; `mae` and `crps` in mean spacings; `pit_std` (honest: 0.2887) and `pit_ks`;
        `cover_90` and `width_90` of the raw 90 % interval; `err_10`, `err_50`, `err_100`: mean
        distance of the zero so many ahead, of the horizons there are.
    """
    interval = metrics["coverage"].get(LEVEL, {}).get("raw", {})
    rivals = [row["nll"] for name, row in skill.items() if name != "network"]
    found = {
        "nll": metrics["nll"],
        "nll_se": skill["network"]["nll_se"],
        "rival_nll": min(rivals, default=None),
        "mae": metrics["mae"],
        "crps": metrics["crps"],
        "pit_std": metrics["pit_std"],
        "pit_ks": metrics["pit_ks"],
        "cover_90": interval.get("coverage"),
        "width_90": interval.get("width"),
        **{f"err_{h}": metrics["err"].get(h) for h in HORIZONS},
    }
    return {k: float(f"{v:.{DIGITS}g}") for k, v in found.items() if v is not None}
