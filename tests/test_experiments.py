import pytest
from conftest import ROOT

from zetalib import experiments
from zetalib.errors import ZetaError


@pytest.mark.parametrize("name", experiments.names(ROOT / "experiments"))
def test_every_named_experiment_is_valid(name):
    assert experiments.overrides(name, ROOT / "experiments", ROOT / "params.yaml")


def test_overrides_are_those_of_the_file():
    found = experiments.overrides("E0", ROOT / "experiments", ROOT / "params.yaml")
    assert {"model.layers=6", "model.lags=1", "train.lr=0.0003", "model.target=spacing"} <= set(
        found
    )


def test_values_are_written_as_hydra_reads_them(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "download: {max_zeros: null}\ntrain: {compile: true}\ncalibrate: {levels: [0.5, 0.9]}\n"
    )
    found = experiments.overrides("x", tmp_path, ROOT / "params.yaml")
    assert found == ["download.max_zeros=null", "train.compile=true", "calibrate.levels=[0.5,0.9]"]


def test_a_wrong_override_is_named_with_the_experiments_file(tmp_path):
    (tmp_path / "x.yaml").write_text("model: {widht: 3}\n")
    with pytest.raises(ZetaError, match=r"x\.yaml: model\.widht: unknown parameter"):
        experiments.overrides("x", tmp_path, ROOT / "params.yaml")


def test_an_unknown_experiment_lists_the_known():
    with pytest.raises(ZetaError, match=r"E1\.yaml: no such experiment.*There are: .*E0"):
        experiments.overrides("E1", ROOT / "experiments", ROOT / "params.yaml")
