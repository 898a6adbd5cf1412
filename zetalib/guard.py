"""The command `dvc`, with params.yaml checked before DVC touches anything and put back afterwards.

DVC writes `-S` into params.yaml and removes the outputs of a stage before the stage runs, so a
parameter that the stage refuses costs the outputs, and an experiment that is cut off leaves the
workspace half way. It has no hook before that, and outputs that persist would do without its run
cache. So `make setup` puts this in the place of `.venv/bin/dvc`: it looks at `repro` and `exp run`,
hands everything over unchanged, and when an experiment in the workspace does not end well puts
params.yaml, dvc.lock, metrics and plots back and has DVC check out the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from zetalib import atomic, params
from zetalib.errors import ZetaError

LOCK = Path("dvc.lock")
GRAPH = Path("dvc.yaml")
_ELSEWHERE = {"--queue", "--temp", "--run-all", "-h", "--help", "--dry"}


def overrides(arguments: Sequence[str]) -> list[str]:
    """What -S and --set-param say, of params.yaml: `section.key=value` in Hydra's grammar."""
    found, rest = [], iter(arguments)
    for argument in rest:
        if argument in ("-S", "--set-param"):
            found.append(next(rest, ""))
        elif argument.startswith("--set-param="):
            found.append(argument.partition("=")[2])
        elif argument.startswith("-S"):
            found.append(argument[2:])
    said = []
    for text in found:
        path, colon, override = text.partition(":")
        if colon and "=" not in path and path.endswith((".yaml", ".yml", ".json", ".toml", ".py")):
            text = override if path == str(params.PARAMS_FILE) else ""
        said += [text] if text else []
    return said


def check(arguments: Sequence[str], path: Path = params.PARAMS_FILE) -> None:
    """Check the parameters a command of DVC would run with, each combination of a sweep.

    Raises
    ------
    ZetaError
        As :func:`zetalib.params.check`; also if an override is none.
    """
    said = overrides(arguments)
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
        problem = " ".join(str(error).split())
        raise ZetaError("--set-param", problem, "Nothing was run; write key=value.") from None


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
    """Run `dvc` with these arguments; its exit status, or 1 if parameters are refused."""
    here = params.PARAMS_FILE.is_file() and GRAPH.is_file()
    experiment = list(arguments[:2]) in (["exp", "run"], ["experiments", "run"], ["exp", "r"])
    running = here and (experiment or list(arguments[:1]) == ["repro"])
    asks = {"-h", "--help"} & set(arguments)
    if running and not asks and "--run-all" not in arguments:
        try:
            check(arguments)
        except ZetaError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
    from dvc.cli import main

    if not (running and experiment) or _ELSEWHERE & set(arguments):
        with _ending_children():
            return int(main(list(arguments)))
    kept = Kept()
    status = 1
    try:
        with _ending_children():
            status = int(main(list(arguments)))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        if status:
            _undo(kept)
    return status


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
