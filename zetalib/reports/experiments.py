"""Named experiments: files of overrides in `experiments/`, apart from size and budget.

An experiment (`experiments/**/NAME.yaml`) says what is particular about a model or its data; a
size (`experiments/sizes/NAME.yaml`) how large it is and how long it trains. Either may begin from
another of its kind (`extends: NAME`). The order: params.yaml, the size over it, the experiment
over both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zetalib import params
from zetalib.errors import ZetaError

FOLDER = Path("experiments")
SIZES = "sizes"


def names(folder: Path = FOLDER) -> list[str]:
    """The experiments there are."""
    return sorted(path.stem for path in _files(folder))


def sizes(folder: Path = FOLDER) -> list[str]:
    """The sizes there are."""
    return sorted(path.stem for path in (folder / SIZES).glob("*.yaml"))


def group(name: str, folder: Path = FOLDER) -> str:
    """The folder an experiment lies in, such as `family`; empty at the top.

    Raises
    ------
    ZetaError
        If there is no such experiment.
    """
    return _find(name, folder).parent.relative_to(folder).as_posix().removeprefix(".")


def resolve(
    name: str,
    size: str | None = None,
    folder: Path = FOLDER,
    params_file: Path = params.PARAMS_FILE,
) -> params.Params:
    """The parameters of experiment `name` at `size` (null: that of params.yaml).

    Raises
    ------
    ZetaError
        If there is no such experiment or size, or an override is unknown, mistyped or out of range.
    """
    return _check(name, changes(name, size, folder), folder, params_file)


def overrides(
    name: str,
    size: str | None = None,
    folder: Path = FOLDER,
    params_file: Path = params.PARAMS_FILE,
) -> list[str]:
    """The same as `section.key=value`, for `dvc exp run -S`; errors as :func:`resolve`."""
    found = changes(name, size, folder)
    _check(name, found, folder, params_file)
    return [f"{key}={hydra(value)}" for key, value in flatten(found)]


def changes(name: str, size: str | None = None, folder: Path = FOLDER) -> dict[str, Any]:
    """What an experiment at a size changes in params.yaml, as nested mappings."""
    experiment = _read(_find(name, folder), lambda base: _find(base, folder))
    if size is None:
        return experiment
    return merged(_read(_size(size, folder), lambda base: _size(base, folder)), experiment)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.yaml") if path.parent != folder / SIZES]


def _find(name: str, folder: Path) -> Path:
    found = [path for path in _files(folder) if path.stem == name]
    if not found:
        known = ", ".join(names(folder)) or "none"
        raise ZetaError(folder / f"{name}.yaml", "no such experiment", f"There are: {known}.")
    return found[0]


def _size(name: str, folder: Path) -> Path:
    path = folder / SIZES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sizes(folder)) or "none"
        raise ZetaError(path, "no such size", f"There are: {known}.")
    return path


def _read(path: Path, find: Callable[[str], Path], above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in above:
        raise ZetaError(path, "extends itself", "Break the circle.")
    own = params.read(path)
    if not isinstance(own, dict):
        raise ZetaError(path, "no parameters in it", "Write section: {key: value}.")
    base = own.pop("extends", None)
    return own if base is None else merged(_read(find(base), find, (*above, path)), own)


def _check(name: str, found: dict[str, Any], folder: Path, params_file: Path) -> params.Params:
    base = params.read(params_file)
    return params.check(merged(base, found), _find(name, folder))


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
