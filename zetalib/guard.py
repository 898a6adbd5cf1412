"""The command `dvc`, with what it would lose checked before, and put back afterwards.

DVC writes `-S` into params.yaml and removes the outputs of a stage before the stage runs, so a
parameter that the stage refuses costs the outputs, a file of the user's in an output folder is
deleted, and an experiment that is cut off leaves the workspace half way. It has no hook before
that, and outputs that persist would do without its run cache. So `make setup` puts this in the
place of `.venv/bin/dvc`: it looks at `repro`, `exp run` and `exp apply`, hands everything over
unchanged, and when an experiment in the workspace does not end well puts params.yaml, dvc.lock,
metrics and plots back and has DVC check out the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from zetalib import atomic, params
from zetalib.errors import ZetaError

if TYPE_CHECKING:
    from argparse import Namespace

LOCK = Path("dvc.lock")
GRAPH = Path("dvc.yaml")
SPLITS = ("train", "calibration", "val")
# The files of an output folder whose stage does not tell its own by what they hold.
FILES = {
    Path("data/windows"): {"meta.json", "index.parquet", *(f"{split}.pt" for split in SPLITS)},
    Path("data/inversion"): {f"{split}.safetensors" for split in SPLITS},
    Path("data/model"): {"weights.safetensors", "config.json"},
    Path("data/formulas"): {"formulas.csv", "formulas.json"},
}
PERSISTENT = {Path("data/raw"), Path("data/zeros"), Path("data/spacings")}  # `persist` in dvc.yaml


def overrides(said: Iterable[str], here: Path, root: Path) -> list[str]:
    """Those of -S and --set-param that are of params.yaml: `section.key=value`, Hydra's grammar.

    Parameters
    ----------
    said : iterable of str
        As given: `section.key=value` or `file:section.key=value`.
    here, root : path
        The folder that file names are relative to; the repository's.
    """
    from dvc.utils.cli_parse import to_path_overrides

    ours = (root / params.PARAMS_FILE).resolve()
    by_file = to_path_overrides(said)
    return [
        text for file, texts in by_file.items() if (here / file).resolve() == ours for text in texts
    ]


def check(said: Sequence[str] = (), path: Path = params.PARAMS_FILE) -> None:
    """Check the parameters a command of DVC would run with, each combination of a sweep.

    Raises
    ------
    ZetaError
        As :func:`zetalib.params.check`; also if an override is none.
    """
    content = params.read(path)
    if not said:
        params.check(content, path)
        return
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        for combination in get_hydra_sweeps({str(path): said}):
            changed = _copied(content)
            for override in OverridesParser.create().parse_overrides(combination[str(path)]):
                _put(changed, override)
            params.check(changed, path)
    except (DvcException, HydraException) as error:
        home = [text for text in said if "=~" in text]
        problem = " ".join(str(error).split())
        remedy = "Nothing was run; write key=value."
        if home:
            key, _, value = home[0].partition("=")
            problem, remedy = f"{home[0]}: ~ needs quotes of its own", f"Write '{key}=\"{value}\"'."
        raise ZetaError("--set-param", problem, remedy) from None


def check_outputs(keeping: Iterable[Path] = ()) -> None:
    """Check that output folders hold nothing but what stages wrote, whole or not.

    Parameters
    ----------
    keeping : iterable of path
        Output folders that the command leaves to their stages, which look for themselves.

    Raises
    ------
    ZetaError
        Naming the first file that DVC would delete and nobody could bring back.
    """
    for folder in (*PERSISTENT, *FILES):
        if folder not in keeping and folder.is_dir() and not folder.is_symlink():
            written = _written(folder)
            for path in sorted(folder.rglob("*")):
                # What a link leads to stays where it is.
                if path.is_file() and not path.is_symlink() and not written(path):
                    problem = (
                        "this file is not one that the pipeline wrote, and DVC would delete it"
                    )
                    raise ZetaError(path, problem, "Move it elsewhere, then run it again.")


def _written(folder: Path) -> Callable[[Path], bool]:
    """Whether a file in an output folder is one that a stage wrote."""
    if folder == Path("data/raw"):
        from zetalib.archive import manifest

        return manifest.ours(folder)
    if folder in PERSISTENT:
        from zetalib.data import parquet_folders

        return parquet_folders.is_ours
    return lambda path: path.parent == folder and path.name in FILES[folder]


def _copied(tree: Any) -> Any:
    return {k: _copied(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _put(tree: Any, override: Any) -> None:
    """Apply one override of Hydra (`a.b=1`, `+a.b=1`, `~a.b`)."""
    *above, last = override.key_or_group.split(".")
    for key in above:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            return  # DVC will say so
    if override.is_delete():
        tree.pop(last, None)
    else:
        tree[last] = _plain(override.value())


def _plain(value: Any) -> Any:
    """A value as YAML will read it back: Hydra quotes some strings."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float | None) else str(value)


class Kept:
    """params.yaml, dvc.lock and the outputs that git keeps, as they were."""

    def __init__(self) -> None:
        stages = YAML(typ="safe").load(GRAPH.read_text())["stages"].values()
        outs = [
            out for s in stages for kind in ("outs", "plots", "metrics") for out in s.get(kind, [])
        ]
        tracked = [
            Path(path)
            for out in outs
            if isinstance(out, dict)
            for path, settings in out.items()
            if not settings.get("cache", True)
        ]
        files = [params.PARAMS_FILE, LOCK, *tracked]
        self._content = {path: path.read_bytes() if path.is_file() else None for path in files}

    def put_back(self) -> list[Path]:
        """Write back what has changed; the files it was."""
        changed = []
        for path, content in self._content.items():
            now = path.read_bytes() if path.is_file() else None
            if now != content:
                changed.append(path)
                if content is None:
                    path.unlink()
                else:
                    atomic.write_bytes(path, content)
        return changed


@contextmanager
def _ending_children() -> Iterator[None]:
    """On SIGTERM or a hang-up, end the stage that runs, then this process, as Ctrl-C does.

    A signal that is ignored, as a hang-up is under `nohup`, stays ignored.
    """

    def end(number: int, _frame: Any) -> None:
        import psutil

        for child in psutil.Process().children(recursive=True):
            child.terminate()
        raise KeyboardInterrupt

    heard = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, end) for s in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(arguments: Sequence[str]) -> int:
    """Run `dvc` with these arguments; its exit status, or 1 if they are refused."""
    from dvc.cli import DvcParserError, main, parse_args
    from dvc.commands.experiments.apply import CmdExperimentsApply
    from dvc.commands.experiments.run import CmdExperimentsRun
    from dvc.commands.repro import CmdRepro

    try:
        asked = parse_args(list(arguments))
    except DvcParserError:
        return 254  # as DVC, which has said why
    of = next(
        (c for c in (CmdExperimentsRun, CmdExperimentsApply, CmdRepro) if asked.func is c), None
    )
    root = _root(Path(asked.cd))
    if root is None or of is None or getattr(asked, "run_all", False):
        with _ending_children():
            return int(main(list(arguments)))
    elsewhere = getattr(asked, "queue", False) or getattr(asked, "tmp_dir", False)
    try:
        _check(asked, root, () if of is not CmdRepro else PERSISTENT, elsewhere)
    except ZetaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    if of is not CmdExperimentsRun or elsewhere or asked.dry:
        with _ending_children():
            return int(main(list(arguments)))
    with chdir(root):
        kept = Kept()
    status = 1
    try:
        with _ending_children():
            status = int(main(list(arguments)))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        if status:
            with chdir(root):
                _undo(kept)
    return status


def _root(folder: Path) -> Path | None:
    """The folder of this project's graph, `folder` or one above it."""
    for above in (folder.resolve(), *folder.resolve().parents):
        if (above / ".dvc").is_dir():
            return (
                above
                if (above / GRAPH).is_file() and (above / params.PARAMS_FILE).is_file()
                else None
            )
    return None


def _check(asked: Namespace, root: Path, keeping: Iterable[Path], elsewhere: bool) -> None:
    """Check the parameters of a command and, if it runs in the workspace, what it would delete."""
    if not os.access(root, os.W_OK):
        raise ZetaError(root, "this checkout cannot be written to", "Clone it elsewhere.")
    said = overrides(getattr(asked, "set_param", None) or [], Path(asked.cd), root)
    with chdir(root):
        if hasattr(asked, "targets"):  # not where an experiment is applied
            check(said)
        if not elsewhere and not getattr(asked, "dry", False):
            check_outputs(keeping)


def _undo(kept: Kept) -> None:
    """Bring the workspace back to what it was before an experiment, and say so in a line."""
    from dvc.cli import main

    if not kept.put_back():
        return
    left = int(main(["checkout", "--quiet"]))
    text = "The workspace is as it was before this experiment; what it finished is in DVC's cache."
    if left:
        text = "params.yaml, dvc.lock, metrics and plots are as they were before this experiment; "
        text += "for the rest: `dvc checkout --force`, then `dvc repro`."
    print(text, file=sys.stderr)


def command() -> None:
    """The console command."""
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    command()
