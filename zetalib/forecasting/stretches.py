"""Stretches of a split that rollouts start from, and which stage rolls out how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from zetalib import params
from zetalib.data.window import Windows
from zetalib.errors import ZetaError
from zetalib.types import Floats


def contexts_and_futures(
    spacing: Floats,
    trajectories: int,
    context: int,
    horizon: int,
    window: int = 1,
    steered_by: str = "evaluate.horizons",
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Evenly spread stretches of a contiguous record, shape (m,).

    `window`: they begin where windows of that length do as far as there are such places, else half
    way between, and so on: what was computed of whole windows serves their beginnings too.
    `steered_by`: the parameter that `horizon` is from.

    Returns
    -------
    contexts : shape (trajectories, context)
    futures : shape (trajectories, horizon)
        What followed each context.
    starts : shape (trajectories,), ascending
        Spacings of the record before each context.

    Raises
    ------
    ZetaError
        If the record is shorter than one stretch.
    """
    length = context + horizon
    if len(spacing) < length:
        problem = f"the split has {len(spacing)} spacings, a rollout needs {length}"
        raise ZetaError(f"params.yaml: {steered_by}", problem, "Lower it, or take more zeros.")
    room = len(spacing) - length
    step = window
    while step > 1 and room // step + 1 < trajectories:
        step //= 2
    places = np.arange(0, room + 1, step)
    first = places % (2 * step) == 0 if step < window else np.zeros(len(places), bool)
    others = places[~first]
    spread = np.linspace(0, len(others) - 1, trajectories - int(first.sum())).astype(int)
    starts = np.sort(np.concatenate([places[first], others[spread]]))
    stretch = spacing[starts[:, None] + np.arange(length)]
    return stretch[:, :context], stretch[:, context:], starts


@dataclass(frozen=True)
class Stretches:
    """Contexts (m, T) of a split, the futures (m, h) that followed, rounded heights (m,)."""

    contexts: Floats
    futures: Floats
    heights: Floats  # of the contexts' first zeros


def stretches(
    windows: Windows,
    trajectories: int,
    context: int,
    horizon: int,
    steered_by: str = "evaluate.horizons",
) -> Stretches:
    """Stretches of the record that windows form, beginning where windows do if there is room.

    ZetaError as :func:`contexts_and_futures`.
    """
    record, length = windows.spacing.numpy().ravel(), windows.spacing.shape[1]
    contexts, futures, starts = contexts_and_futures(
        record, trajectories, context, horizon, length, steered_by
    )
    return Stretches(contexts, futures, windows.heights(torch.from_numpy(starts)).numpy())


FORCED = 10  # steps that diagnostics also take with the true spacings fed back


class Plan(NamedTuple):
    """Rollouts of a stage: how many, and by spacings known how many steps.

    `steered_by`: the parameter that the steps are from. `forced`: true spacings beyond the longest
    context that are fed back too, for comparison.
    """

    trajectories: int
    steps: dict[int, int]
    steered_by: str
    forced: int = 0


def plans(
    e: params.Evaluate, c: params.Calibrate, d: params.Diagnose, laws: params.Laws
) -> dict[str, dict[str, Plan]]:
    """The rollouts of all stages, by split and by what they are for."""
    first = e.contexts[0]
    horizon, longest = max(d.horizon, FORCED), max(e.horizons)
    diagnostics = Plan(d.trajectories, {first: horizon}, "diagnose.horizon", FORCED - 1)
    return {
        "calibration": {
            "intervals": Plan(c.contexts, dict.fromkeys(e.contexts, c.ahead), "calibrate.ahead"),
            "diagnostics": diagnostics,
            "laws": Plan(laws.trajectories, {first: laws.horizon}, "laws.horizon"),
        },
        "val": {
            "scores": Plan(e.trajectories, dict.fromkeys(e.contexts, longest), "evaluate.horizons"),
        },
    }
