"""How a command begins: in its repository, with help, arguments and parameters looked at first.

A command is a script of `pipeline/`, run as `python -m pipeline.NAME`. One that does not parse
arguments takes none. Nothing slow is imported here.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from zetalib import errors, params
from zetalib.errors import ZetaError

ROOT = Path(__file__).parents[1]
GRAPH = "dvc.yaml"
_CODE = ("zetalib/", "pipeline/")


def named(argv: Sequence[str]) -> tuple[str, list[str]] | None:
    """The command of a command line, `... -m pipeline.NAME ARGUMENT ...`, and its arguments."""
    for place, (option, value) in enumerate(pairwise(argv)):
        package, _, name = value.partition(".")
        if option == "-m" and package == errors.COMMANDS and name:
            return name, list(argv[place + 2 :])
    return None


def begin(argv: Sequence[str], root: Path = ROOT) -> None:
    """Make ready for the command of a command line; nothing, if it runs none of ours.

    Raises
    ------
    SystemExit
        Status 0 after help; 2 for arguments to a command that takes none; 1 for bad parameters.
    """
    found = named(argv)
    script = root / errors.COMMANDS / f"{found[0]}.py" if found else root
    if found is None or not script.is_file():
        return
    sys.excepthook = errors.hook
    name, arguments = found
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if not _parses(tree):
        if {"-h", "--help"} & set(arguments):
            print(usage(name, ast.get_docstring(tree) or "", root / GRAPH))
            raise SystemExit(0)
        if arguments:
            said = f"python -m {errors.COMMANDS}.{name} takes no arguments, got {arguments[0]!r}"
            print(f"error: {said}. {errors.PARAMS} steers it; --help says more.", file=sys.stderr)
            raise SystemExit(2)
    errors.go_home(root)
    if not {"-h", "--help"} & set(arguments):
        errors.run_stage(lambda: _check(name, "params.load()" in text))


def _check(name: str, of_params: bool) -> None:
    """What a command needs: good parameters; of a stage in its graph, what it reads and writes."""
    if of_params:
        params.load()
    stages = _stages(Path(GRAPH))
    stage = _stage(name, stages)
    for path in stage["writes"]:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            remedy = "Correct the permissions, or work in a copy of the repository."
            raise ZetaError(path, f"stage {name} writes it, and {folder} is read-only", remedy)
    for path in stage["reads"]:
        if not Path(path).exists():
            remedy = "Run `dvc repro` (or `dvc pull`), which makes what is missing here."
            raise ZetaError(path, f"not found, and stage {name} reads it", remedy)
    if name in stages:
        print(f"stage {list(stages).index(name) + 1} of {len(stages)}: {name}", flush=True)


def _parses(tree: ast.Module) -> bool:
    return any(isinstance(n, ast.Import) and n.names[0].name == "argparse" for n in tree.body)


def usage(name: str, about: str, graph: Path) -> str:
    """What a command that takes no arguments does; of a stage, its parameters and files too."""
    lines = [about, "", f"usage: python -m {errors.COMMANDS}.{name}"]
    lines += [
        f"{what}: {', '.join(names)}"
        for what, names in _stage(name, _stages(graph)).items()
        if names
    ]
    return "\n".join(lines)


def _stages(graph: Path) -> dict[str, Any]:
    content = YAML(typ="safe").load(graph.read_text()) if graph.is_file() else {"stages": {}}
    return dict(content["stages"])


def _stage(name: str, stages: dict[str, Any]) -> dict[str, list[str]]:
    """Parameters and files of a stage of the graph; nothing for other commands."""
    stage: dict[str, Any] = stages.get(name, {})
    found = {
        f"sections of {errors.PARAMS}": stage.get("params", []),
        "reads": [d for d in stage.get("deps", []) if not d.startswith(_CODE)],
        "writes": [p for kind in ("outs", "plots", "metrics") for p in stage.get(kind, [])],
    }
    return {
        what: [next(iter(t)) if isinstance(t, dict) else t for t in things]
        for what, things in found.items()
    }
