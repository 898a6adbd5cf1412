"""The command `dvc`, with what it would lose looked at before, and put back afterwards.

DVC writes `-S` into params.yaml and removes the outputs of a stage before the stage runs, so a
parameter that the stage refuses costs the outputs, a file of the user's in an output folder is
deleted, and an experiment that is cut off leaves the workspace half way. It has no hook before
that, and outputs that persist would do without its run cache. So `make setup` puts this in the
place of `.venv/bin/dvc`: it looks at `repro`, `exp run` and `exp apply`, hands everything over
unchanged, and when an experiment in the workspace does not end well puts back what there was.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zetalib import atomic, params
from zetalib.errors import ZetaError

if TYPE_CHECKING:
    from argparse import Namespace

    from dvc.output import Output
    from dvc.repo import Repo

LOCK = Path("dvc.lock")
GRAPH = Path("dvc.yaml")
KEPT = Path("data/kept")  # what would be lost is linked there
SPLITS = ("train", "calibration", "val")
# The files of an output folder whose stage does not tell its own by what they hold.
FILES = {
    Path("data/windows"): {"meta.json", "index.parquet", *(f"{split}.pt" for split in SPLITS)},
    Path("data/inversion"): {f"{split}.safetensors" for split in SPLITS},
    Path("data/rollouts"): {
        *(f"calibration_{name}.safetensors" for name in ("intervals", "diagnostics", "laws")),
        "val_scores.safetensors",
        "val_intervals.safetensors",  # of versions before the law of the zeros ahead
    },
    Path("data/model"): {"weights.safetensors", "config.json"},
    Path("data/formulas"): {"formulas.csv", "formulas.json"},
}
PERSISTENT = {Path("data/raw"), Path("data/zeros"), Path("data/spacings")}  # `persist` in dvc.yaml
_NAMES = re.compile(r"zeros_\d+\.(dat|parquet)")  # in those
_INDEXES = {"manifest.json", "_index.json", "index.json"}  # what they hold names nobody
_LEFT_BY_DVC = re.compile(r"\.[\w-]{20,}\.tmp")  # where it was killed as it brought a file
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_WAIT = 10.0  # seconds, for a stage that has been told to end


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
    return [o for file, found in by_file.items() if (here / file).resolve() == ours for o in found]


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
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        for combination in get_hydra_sweeps({str(path): said}):
            params.check(_overridden(content, combination[str(path)]), path)
    except (DvcException, HydraException, OmegaConfBaseException) as error:
        home = [text for text in said if "=~" in text]
        problem = " ".join(str(error).split())
        remedy = "Nothing was run; write key=value."
        if home:
            key, _, value = home[0].partition("=")
            problem, remedy = f"{home[0]}: ~ needs quotes of its own", f"Write '{key}=\"{value}\"'."
        raise ZetaError("--set-param", problem, remedy) from None


def _overridden(content: Any, said: Sequence[str]) -> Any:
    """Parameters as DVC would make them of overrides, but for keys there are none of: `check`'s."""
    from dvc.utils.collections import to_omegaconf
    from dvc.utils.hydra import to_hydra_overrides
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import OmegaConf

    config = OmegaConf.create(to_omegaconf(content), flags={"allow_objects": True})
    ConfigLoaderImpl._apply_overrides_to_config(to_hydra_overrides(said), config)
    return OmegaConf.to_object(config)


def check_outputs(repo: Repo, outs: Iterable[Output]) -> list[Path]:
    """Check that outputs hold nothing but what stages wrote, whole or not.

    Returns
    -------
    list of Path
        Files under our names that are not in DVC's cache: a killed run's, or the user's own.

    Raises
    ------
    ZetaError
        Naming the first file that DVC would delete and nobody could bring back.
    """
    named: list[Path] = []
    for out in outs:
        path = Path(out.def_path)
        if path.is_dir():
            named += _named_as_ours(repo, path)
        elif path.is_file() and not path.is_symlink():
            named.append(path)
    return [path for path in named if not _cached(repo, path)]


def _named_as_ours(repo: Repo, folder: Path) -> Iterator[Path]:
    """Files of an output folder whose name alone says that a stage wrote them; none of a user's."""
    names, written = FILES.get(folder, _INDEXES), _written(folder)
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue  # what a link leads to stays where it is
        direct = path.parent == folder
        if direct and path.name in names:
            yield path
            continue
        known = direct and (
            _LEFT_BY_DVC.fullmatch(path.name)
            or (_NAMES.fullmatch(path.name) and _cached(repo, path))
            or written(path)
        )
        if not known:
            problem = "this file is not one that the pipeline wrote, and DVC would delete it"
            raise ZetaError(path, problem, "Move it elsewhere, then run it again.")


def _written(folder: Path) -> Callable[[Path], bool]:
    """Whether a file right in an output folder is one that a stage wrote."""
    if folder == Path("data/raw"):
        from zetalib.archive import manifest

        return manifest.ours(folder)
    if folder in PERSISTENT:
        from zetalib.data import parquet_folders

        return parquet_folders.is_ours
    half = {f".{name}.partial" for name in FILES.get(folder, ())}
    return lambda path: path.name in half


def _cached(repo: Repo, path: Path) -> bool:
    """Whether the content of a file is in DVC's cache; DVC remembers what it has hashed."""
    from dvc.fs import localfs
    from dvc_data.hashfile.hash import hash_file

    _, found = hash_file(str(path.absolute()), localfs, "md5", state=repo.state)
    return bool(repo.cache.local.exists(found.value))


def _touched(repo: Repo, asked: Namespace, kind: str) -> list[Output]:
    """Outputs that a command may remove."""
    stages = set(repo.index.stages)
    wide = ("pipeline", "all_pipelines", "downstream", "force_downstream", "recursive", "glob")
    if kind == "repro" and asked.targets and not any(getattr(asked, w, False) for w in wide):
        import networkx

        with suppress(Exception):  # DVC will say so
            asked_for = [stage for target in asked.targets for stage in repo.stage.collect(target)]
            graph = repo.index.graph
            stages = set(asked_for)
            if not asked.single_item:
                stages |= {s for a in asked_for for s in networkx.descendants(graph, a)}
    outs = [out for stage in stages for out in stage.outs if out.use_cache]
    return [out for out in outs if kind != "repro" or not out.persist]


class Kept:
    """params.yaml, dvc.lock and the outputs, as they were.

    Parameters
    ----------
    repo : of the current folder
    loose : files that are nowhere else: they are linked to a folder of `KEPT`
    """

    def __init__(self, repo: Repo, loose: Sequence[Path]) -> None:
        outs = list(repo.index.outs)
        tracked = [Path(out.def_path) for out in outs if not out.use_cache]
        files = [params.PARAMS_FILE, LOCK, *tracked]
        self._content = {path: path.read_bytes() if path.is_file() else None for path in files}
        there = [out for out in outs if out.use_cache and out.hash_info and out.exists]
        self._locked = [out.def_path for out in there]
        self._stashed = _stashed()
        place = KEPT / time.strftime("%Y%m%d-%H%M%S")
        self.aside = {path: place / path for path in loose}
        for path, copy in self.aside.items():
            if not copy.exists():  # of this second, and the same file
                _link(path, copy)

    def forget_unchanged(self) -> dict[Path, Path]:
        """Remove links to files that are still there; what is left."""
        for path, copy in list(self.aside.items()):
            if path.is_file() and copy.samefile(path):
                del self.aside[path]
                copy.unlink()
                for folder in copy.parents:
                    if folder == KEPT.parent or any(folder.iterdir()):
                        break
                    folder.rmdir()
        return self.aside

    def put_back(self) -> str:
        """Make everything what it was; what could not be, or was changed besides."""
        from dvc.cli import main

        for path, content in self._content.items():
            now = path.read_bytes() if path.is_file() else None
            if now != content:
                if content is None:
                    path.unlink()
                else:
                    atomic.write_bytes(path, content)
        left = 0
        for path in self._locked:
            # What was there before is in the cache or aside; downloads may take hours: not forced.
            force = [] if path == "data/raw" else ["--force"]
            left |= int(main(["checkout", "--quiet", *force, path]))
        for path, copy in self.aside.items():
            if not (path.is_file() and copy.samefile(path)):
                path.unlink(missing_ok=True)
                _link(copy, path)
        if _stashed() != self._stashed:
            return "Changes that were not committed are in `git stash list`: `git stash pop`."
        return "For the rest: `dvc checkout`, then `dvc repro`." if left else ""


def _link(path: Path, there: Path) -> None:
    """Have the file at `path` also at `there`: linked, or copied where no link can be."""
    there.parent.mkdir(parents=True, exist_ok=True)
    try:
        there.hardlink_to(path)
    except OSError:
        shutil.copy2(path, there)


def _stashed() -> int:
    done = subprocess.run(["git", "stash", "list"], capture_output=True, check=False)
    return done.stdout.count(b"\n")


@contextmanager
def _ending_children() -> Iterator[None]:
    """On SIGTERM or a hang-up, end the stage that runs, then this process, as Ctrl-C does.

    A signal that is ignored, as a hang-up is under `nohup`, stays ignored.
    """

    def end(number: int, _frame: Any) -> None:
        import psutil

        for once in _SIGNALS:
            signal.signal(once, signal.SIG_IGN)  # or who is waited for here would be forgotten
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        for child in psutil.wait_procs(children, timeout=_WAIT)[1]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        raise KeyboardInterrupt

    heard = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    with _handled(heard, end):
        yield


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Any) -> Iterator[None]:
    """Handle these signals so, and all of `_SIGNALS` as before in the end."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def run(arguments: Sequence[str]) -> int:
    """Run `dvc` with these arguments; its exit status, or 1 if they are refused."""
    from dvc.cli import DvcParserError, main, parse_args

    try:
        asked = parse_args(list(arguments))
    except DvcParserError:
        return 254  # as DVC, which has said why
    kind, root = _kind(asked), _root(Path(asked.cd))
    kept = None
    if root is not None and kind and not getattr(asked, "run_all", False):
        try:
            kept = _prepare(asked, kind, root)
        except ZetaError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
    status = 1
    with _ending_children():
        if kept is None or root is None:
            return int(main(list(arguments)))
        try:
            status = int(main(list(arguments)))
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        finally:
            # Undisturbed for some seconds: the workspace is being put back.
            with _handled(_SIGNALS, signal.SIG_IGN), chdir(root):
                if status and kind == "exp run":
                    left = kept.put_back()
                    text = "The workspace is as it was before this experiment."
                    said = f"params.yaml, dvc.lock, metrics and plots are as they were. {left}"
                    print(said if left else text, file=sys.stderr)
                for path, copy in kept.forget_unchanged().items():
                    print(f"{path} was not in DVC's cache: kept as {copy}", file=sys.stderr)
    return status


def _kind(asked: Namespace) -> str:
    """Which of the commands that remove outputs it is; "" for others."""
    from dvc.commands.experiments.apply import CmdExperimentsApply
    from dvc.commands.experiments.run import CmdExperimentsRun
    from dvc.commands.repro import CmdRepro

    kinds = {CmdRepro: "repro", CmdExperimentsRun: "exp run", CmdExperimentsApply: "exp apply"}
    return kinds.get(asked.func, "")


def _root(folder: Path) -> Path | None:
    """The folder of this project's graph, `folder` or one above it."""
    for above in (folder.resolve(), *folder.resolve().parents):
        if (above / ".dvc").is_dir():
            ours = (above / GRAPH).is_file() and (above / params.PARAMS_FILE).is_file()
            return above if ours else None
    return None


def _prepare(asked: Namespace, kind: str, root: Path) -> Kept | None:
    """Check what a command would do; what to put back where it runs in the workspace.

    Raises
    ------
    ZetaError
        If its parameters make no sense or it would delete a user's file.
    """
    if not os.access(root, os.W_OK):
        raise ZetaError(root, "this checkout cannot be written to", "Clone it elsewhere.")
    if kind != "exp apply":
        said = overrides(getattr(asked, "set_param", None) or [], Path(asked.cd), root)
        with chdir(root):
            check(said)
    if any(getattr(asked, name, False) for name in ("queue", "tmp_dir", "dry")):
        return None
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    here = Path(asked.cd).resolve()
    try:
        with chdir(here), Repo(str(root)) as repo:
            outs = _touched(repo, asked, kind)
            with chdir(root):
                return Kept(repo, check_outputs(repo, outs))
    except DvcException:
        return None  # DVC will say so itself


def command() -> None:
    """The console command."""
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    command()
