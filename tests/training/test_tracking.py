"""Live curves: DVCLive and W&B are shown each point, and neither is needed."""

import importlib
import json
import sys
import types

import pytest
from conftest import changed

from zetalib.errors import ZetaError
from zetalib.training import tracking
from zetalib.training.distributed import Group
from zetalib.training.engine import Point

POINTS = [Point(20, 640, 0.5, 0.4, 1e-3, 1.5), Point(40, 1280, 0.3, 0.2, 5e-4, 3.0)]


def asked(p, **changes):
    return p.model_copy(update={"train": changed(p.train, **changes)})


def test_nothing_is_followed_unless_asked_for(tmp_path, defaults):
    with tracking.following(defaults, tmp_path / "live") as watch:
        assert watch is None
    with tracking.following(asked(defaults, live=True), tmp_path / "live", Group(1, 2)) as watch:
        assert watch is None, "rank 0 alone is followed"
    assert not (tmp_path / "live").exists()


def test_dvclive_has_the_last_point_and_the_curve(tmp_path, defaults):
    with tracking.following(asked(defaults, live=True), tmp_path) as watch:
        for point in POINTS:
            watch(point)
            found = json.loads((tmp_path / "dvclive/metrics.json").read_text())
            assert (found["step"], found["dev_nll"]) == (point.step, point.dev_nll)
    curve = (tmp_path / "dvclive/plots/metrics/dev_nll.tsv").read_text().split()
    assert curve == ["step", "dev_nll", "20", "0.4", "40", "0.2"]


def test_wandb_is_given_the_parameters_and_each_point(tmp_path, defaults, monkeypatch):
    said = []

    class Run:
        def log(self, values, step):
            said.append((step, values["dev_nll"]))

        def finish(self):
            said.append("finished")

    def init(**options):
        said.append((options["mode"], options["config"]["train"]["seed"]))
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with tracking.following(asked(defaults, wandb="online"), tmp_path) as watch:
        for point in POINTS:
            watch(point)
    assert said == [("online", 1337), (20, 0.4), (40, 0.2), "finished"]


def test_wandb_offline_writes_a_run(tmp_path, defaults, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with tracking.following(asked(defaults, wandb="offline"), tmp_path) as watch:
        watch(POINTS[0])
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_a_missing_wandb_is_named_before_anything_runs(tmp_path, defaults, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with (
        pytest.raises(ZetaError, match=r"train\.wandb: offline asked for, .* not installed.*pip"),
        tracking.following(asked(defaults, wandb="offline"), tmp_path),
    ):
        pass
