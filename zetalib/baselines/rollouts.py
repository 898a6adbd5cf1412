"""Rivals rolled out: what networks' free-running forecasts are held against, made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import safe_open

from zetalib import atomic, compute
from zetalib.baselines import explicit_formula
from zetalib.baselines.autoregression import Autoregression
from zetalib.errors import ZetaError
from zetalib.types import Floats

_AGAIN = "Run `dvc repro -f rollouts`."


class RolledOut(NamedTuple):
    """Spacings predicted beyond contexts, (m, h), by rival; by some rivals of a `subset` alone.

    `subset`: numbers of the contexts that these are given.
    """

    predicted: Mapping[str, Floats]
    subset: Mapping[str, NDArray[np.int64]]


def roll_out(
    contexts: Floats, heights: Floats, horizon: int, ar: Autoregression, explicit: int
) -> RolledOut:
    """Predict `horizon` spacings beyond contexts (m, T) at rounded heights (m,).

    Parameters
    ----------
    ar : least squares, fitted below the contexts
    explicit : so many contexts, evenly spread, are continued by the explicit formula too, where it
        holds; 0.4 s each
    """
    predicted, subset = {f"AR({ar.order})": ar.rollout(contexts, horizon)}, {}
    if explicit and explicit_formula.holds(heights):
        few = np.linspace(0, len(contexts) - 1, explicit).astype(int)
        calls = [(contexts[i], float(heights[i]), horizon) for i in few]
        found = compute.map_threads(calls, explicit_formula.ahead)
        places = np.stack([place for place, _ in found])
        predicted["explicit formula"] = np.diff(places, prepend=0.0)
        subset["explicit formula"] = few
    return RolledOut(predicted, subset)


def write(path: str | Path, rolled: Mapping[int, RolledOut]) -> None:
    """Keep rollouts, by context, in a file for :func:`read`."""
    arrays: dict[str, Any] = {}
    names: list[list[Any]] = []
    for context, one in rolled.items():
        for name, values in one.predicted.items():
            arrays[str(len(names))] = np.ascontiguousarray(values)
            if name in one.subset:
                arrays[f"{len(names)} of"] = np.ascontiguousarray(one.subset[name])
            names.append([context, name])
    # One entry: safetensors writes several in random order.
    said = {"rollouts": json.dumps(names)}
    atomic.write_bytes(path, safetensors.numpy.save(arrays, said))


def read(path: str | Path) -> dict[int, RolledOut]:
    """Rollouts from their file; ZetaError if it holds none."""
    try:
        with safe_open(path, "numpy") as file:
            names = json.loads((file.metadata() or {})["rollouts"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        found: dict[int, RolledOut] = {}
        for i, (context, name) in enumerate(names):
            one = found.setdefault(context, RolledOut({}, {}))
            one.predicted[name] = arrays[str(i)]  # type: ignore[index]
            if f"{i} of" in arrays:
                one.subset[name] = arrays[f"{i} of"]  # type: ignore[index]
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        problem = f"not a file of rollouts ({' '.join(str(error).split())})"
        raise ZetaError(path, problem, _AGAIN) from None
    for context, one in found.items():
        whole = {v.shape for name, v in one.predicted.items() if name not in one.subset}
        for name, values in one.predicted.items():
            few = one.subset.get(name)
            rows = {shape[0] for shape in whole if len(shape) == 2}
            good = values.ndim == 2 and len(whole) == 1 and len(rows) == 1
            if good and few is not None:
                good = few.shape == values.shape[:1] and few.dtype.kind == "i"
                good = good and bool(((few >= 0) & (few < max(rows))).all())
            if not good or not np.isfinite(values).all():
                problem = f"{name} beyond {context} spacings: shape {values.shape}, expected finite"
                problem += " spacings of all contexts, or of those that it numbers"
                raise ZetaError(path, problem, _AGAIN)
    return found
