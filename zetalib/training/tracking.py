"""Learning curves while training runs: DVCLive, Weights & Biases."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zetalib import params
from zetalib.errors import ZetaError
from zetalib.training.distributed import ALONE, Group
from zetalib.training.engine import Point, Watch


@contextmanager
def following(p: params.Params, folder: str | Path, group: Group = ALONE) -> Iterator[Watch | None]:
    """What :func:`engine.train` shows its curve to, as `train.live` and `.wandb` say.

    Only rank 0 of the `group` is followed. What is written to `folder` is never the same twice, so
    it is no place for tracked files.

    Raises
    ------
    ZetaError
        If W&B is asked for and not installed.
    """
    shown: list[Watch] = []
    live = run = None
    if p.train.wandb != "off" and group.rank == 0:
        run = _wandb(p, Path(folder))
        shown.append(lambda point: run.log(_values(point), step=point.step))
    if p.train.live and group.rank == 0:
        from dvclive import Live

        live = Live(str(Path(folder) / "dvclive"), dvcyaml=None, save_dvc_exp=False)
        shown.append(lambda point: _show(live, point))

    def watch(point: Point) -> None:
        for show in shown:
            show(point)

    try:
        yield watch if shown else None
    finally:
        if live is not None:
            live.end()
        if run is not None:
            run.finish()


def _values(point: Point) -> dict[str, float]:
    values: dict[str, float] = asdict(point)
    del values["step"]
    return values


def _show(live: Any, point: Point) -> None:
    live.step = point.step
    for name, value in _values(point).items():
        live.log_metric(name, value)
    live.make_summary()


def _wandb(p: params.Params, folder: Path) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        problem = f"{p.train.wandb} asked for, and the package wandb is not installed"
        remedy = "pip install -e '.[wandb]', or set it to off."
        raise ZetaError("params.yaml: train.wandb", problem, remedy) from None
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(project="zetalib", mode=p.train.wandb, dir=str(folder), config=p.model_dump())
