"""Named experiments: small files of overrides in `experiments/`, run through `dvc exp run -S`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from zetalib import params
from zetalib.errors import ZetaError

FOLDER = Path("experiments")


def names(folder: Path = FOLDER) -> list[str]:
    """The experiments there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def overrides(
    name: str, folder: Path = FOLDER, params_file: Path = params.PARAMS_FILE
) -> list[str]:
    """The overrides of experiment `name` as `section.key=value`, for `dvc exp run -S`.

    They are checked on top of the current parameters before anything runs.

    Raises
    ------
    ZetaError
        If there is no such experiment or an override is unknown, mistyped or out of range.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(names(folder)) or "none"
        raise ZetaError(path, "no such experiment", f"There are: {known}.")
    changes = YAML(typ="safe").load(path.read_text())
    params.check(merged(YAML(typ="safe").load(params_file.read_text()), changes), path)
    return [f"{key}={hydra(value)}" for key, value in flatten(changes)]


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings with their dotted paths."""
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves += flatten(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `changes` put over it; neither is altered."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            result[key] = merged(inner, value)
        else:
            result[key] = value
    return result


def hydra(value: Any) -> str:
    """A value as Hydra's override grammar writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(hydra(item) for item in value) + "]"
    return str(value)
