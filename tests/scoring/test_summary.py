"""The dozen numbers that DVC's tables print."""

import json

import pytest

from zetalib import atomic
from zetalib.scoring import summary

METRICS = {
    "nll": -9.0096037,
    "mae": 0.0303223394,
    "crps": 0.0214979939,
    "pit_std": 0.28723,
    "pit_ks": 0.00707916,
    "coverage": {"0.9": {"raw": {"coverage": 0.892576, "width": 0.1204, "se": 0.001}}},
    "err": {"1": 5.6e-05, "10": 0.0826615, "50": 0.106434, "100": 0.0965757, "500": 0.08699},
}
SKILL = {
    "network": {"nll": -9.0, "nll_se": 0.0043842},
    "AR(48)": {"nll": -0.13},
    "x": {"nll": -8.4},
}


def test_a_dozen_numbers_of_five_digits():
    found = summary.summarise(METRICS, SKILL)
    assert len(found) == 12 and found["rival_nll"] == -8.4 and found["nll"] == -9.0096
    assert found["err_100"] == 0.096576 and found["cover_90"] == 0.89258
    assert list(found)[:3] == ["nll", "nll_se", "rival_nll"]


def test_what_there_is_not_is_left_out():
    found = summary.summarise(
        {**METRICS, "err": {"3": 0.1}, "coverage": {}}, {"network": SKILL["network"]}
    )
    assert set(found) == {"nll", "nll_se", "mae", "crps", "pit_std", "pit_ks"}


def test_metrics_of_a_stage_are_a_list_of_one_for_dvc_to_pass_over(tmp_path):
    atomic.write_metrics(tmp_path / "m.json", {"a": {"b": 1}})
    assert json.loads((tmp_path / "m.json").read_text()) == [{"a": {"b": 1}}]
    assert atomic.read_metrics(tmp_path / "m.json") == {"a": {"b": 1}}
    for other in ("{}", "[]", "[1]", "[{}, {}]", "nothing"):
        (tmp_path / "m.json").write_text(other)
        with pytest.raises(ValueError):
            atomic.read_metrics(tmp_path / "m.json")
