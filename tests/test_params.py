"""params.yaml: everything wrong with it is named by its path before anything runs."""

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from zetalib import params
from zetalib.errors import ZetaError

GOOD = (ROOT / "params.yaml").read_text()


def test_the_defaults_are_valid():
    p = params.load(ROOT / "params.yaml")
    assert p.window.length == 256 and p.download.source == "odlyzko"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("entropy_reg: 0.005", "entropy_regg: 0.005", "model.entropy_regg: unknown parameter"),
        ("entropy_reg: 0.005", "entropy_regg: 0.005", "model.entropy_reg: missing"),
        ("entropy_reg: 0.005", "entropy_reg: -1", "model.entropy_reg: input should be greater than or equal to 0, got -1"),
        ("entropy_reg: 0.005", "entropy_reg: yes please", "model.entropy_reg: .*number, got 'yes please'"),
        ("layers: 2", "layers: 4.5", "model.layers: .*integer.*, got 4.5"),
        ("layers: 2", 'layers: "4"', "model.layers: .*integer, got '4'"),
        ("layers: 2", "layers: true", "model.layers: .*integer, got True"),
        ("heads: 4", "heads: 3", "model: width 64 is not a multiple of heads 3"),
        ("source: odlyzko", "source: odlyzka", "download.source: .*'odlyzko'.*'directory'.*, got 'odlyzka'"),
        ("val_fraction: 0.1", "val_fraction: 1.5", "window.val_fraction: .*less than 1, got 1.5"),
        ("val_fraction: 0.1", "val_fraction: .nan", "window.val_fraction: .*finite"),
        ("primes: 32", "primes: -1", "model.primes: .*greater than or equal to 0, got -1"),
        ("frequencies: fixed", "frequencies: random", "model: frequencies are chosen for positions: arithmetic"),
        ("kind: none", "kind: suffix", "memory.kind: .*'prefix'.*, got 'suffix'"),
        ("mask: causal", "mask: leaky", "memory: mask: leaky is of kind: prefix only"),
        ("ids: fixed", "ids: no", "memory.ids: .*'off'.*, got 'no'"),
        ("link: none", "link: film", "memory: a link needs a memory"),
        ("roles: 0.0", "roles: -0.1", "losses.roles.weight: .*greater than or equal to 0, got -0.1"),
        ("roles: 0.0", "roles: 0.1", "losses.roles needs a memory"),
        ("roles: 0.0", "roles: [[0, 0.1], [5]]", r"losses.roles.ramp.1: .*at least 2 items"),
        ("roles: 0.0", "roles: [[9, 0.1], [5, 0.2]]", "losses.roles.ramp: steps of a ramp must not decrease"),
        ("warmup: 100", "warmup: 2600000", "train: warmup 2600000 must be less than steps"),
        ("- 255\n", "- 256\n", "evaluate.contexts must be below window.length 256"),
        ("levels:\n", "levels:\n  - 0\n", r"calibrate.levels.0: .*greater than 0, got 0"),
        ("- q0.9\n", "- q90\n", "distill.statistics.3: .*got 'q90'"),
        ("  - 24\n  lags: 3", "  - 24\n  lags: 4", "distill.known must ascend, from distill.lags or more"),
        ("  - 24\n  lags: 3", "  - 256\n  lags: 3", "distill.known must .* to below window.length 256"),
        ("unfold:\n", "unfoldd:\n", "unfold: missing; unfoldd: unknown parameter"),
        ("unfold:\n", "unfold:\n  - [", "not valid YAML"),
    ],
)  # fmt: skip
def test_each_mistake_is_named(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    path = tmp_path / "params.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ZetaError, match=message) as caught:
        params.load(path)
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_rank": 5, "from_height": 100.0}, "give first_rank or from_height, not both"),
        ({"max_zeros": 5, "to_height": 100.0}, "give max_zeros or to_height, not both"),
        ({"from_height": 200.0, "to_height": 100.0, "max_zeros": None}, "from_height 200.0 is not below 100.0"),
        ({"max_zeros": None}, "source siegel needs max_zeros or to_height"),
        ({"source": "exact"}, "source exact needs to_height"),
        ({"source": "lmfdb", "to_height": 100.0, "max_zeros": None}, "to_height means nothing to source lmfdb"),
        ({"source": "odlyzko", "first_rank": 7}, "first_rank means nothing to source odlyzko"),
        ({"directory": "/data"}, "directory means nothing to source siegel"),
        ({"url": "ftp://example.org/"}, "download.url"),
        ({"url": "https://example.org"}, "download.url"),  # without the slash a join would lose a part
        ({"connections": 100}, "download.connections: .*less than or equal to 8"),
    ],
)  # fmt: skip
def test_a_range_that_makes_no_sense_is_named(changes, message):
    content = YAML(typ="safe").load(GOOD)
    content["download"] |= {"source": "siegel", "max_zeros": 10} | changes
    with pytest.raises(ZetaError, match=message):
        params.check(content)


def test_a_range_may_be_given_in_integers():
    content = YAML(typ="safe").load(GOOD)
    content["download"] |= {"source": "siegel", "from_height": 100, "to_height": 200}
    assert params.check(content).download.to_height == 200.0


@pytest.mark.parametrize("address", ["threads", "tcp://127.0.0.1:8786"])
def test_a_scheduler_is_threads_or_an_address(address):
    content = YAML(typ="safe").load(GOOD)
    content["compute"]["scheduler"] = address
    assert params.check(content).compute.scheduler == address
    content["compute"]["scheduler"] = address.replace(":8786", "").replace("threads", "dask")
    with pytest.raises(ZetaError, match="compute.scheduler"):
        params.check(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"statistics": 0.1}}, "losses.statistics needs a memory"),
        ({"memory": {"kind": "postfix", "slots": 4}, "losses": {"roles": 0.1}}, "one slot a statistic needs 8"),
        ({"memory": {"kind": "postfix", "slots": 4}, "losses": {"diagonal": True}}, "one slot a statistic"),
        ({"losses": {"drift": 0.1, "drift_horizon": 240}}, "leaves no context of window.length 256"),
        ({"losses": {"own_rollout": 0.1, "drift_horizon": 240}}, "leaves no context"),
    ],
)  # fmt: skip
def test_losses_that_do_not_fit_the_model_are_named(changes, message):
    content = YAML(typ="safe").load(GOOD)
    for section, values in changes.items():
        content[section] |= values
    with pytest.raises(ZetaError, match=message):
        params.check(content)


def test_a_weight_may_be_a_ramp():
    content = YAML(typ="safe").load(GOOD)
    content["memory"]["kind"] = "postfix"
    content["losses"] |= {"orthogonality": [[0, 1e-4], [5000, 0.01]], "drift_horizon": 240}
    found = params.check(content).losses
    assert found.orthogonality == [[0.0, 1e-4], [5000.0, 0.01]] and found.drift == 0.0


def test_all_mistakes_are_named_at_once(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(GOOD.replace("layers: 2", "layers: 0").replace("batch: 8", "batch: big"))
    with pytest.raises(ZetaError, match=r"model\.layers: .*; train\.batch: "):
        params.load(path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(GOOD.replace("weight_decay: 0.1", "weight_decay: 1e-1"))
    assert params.load(path).train.weight_decay == 0.1


@pytest.mark.parametrize("content", ["", "[]", "3"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(ZetaError, match="params"):
        params.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ZetaError, match="not found.*root of the repository"):
        params.load(tmp_path / "params.yaml")


def test_the_file_is_as_dvc_would_write_it(tmp_path):
    """Then `dvc exp run -S` changes nothing in it but the value asked for."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text(GOOD)
    apply_overrides(str(path), ["model.entropy_reg=0.005"])
    assert path.read_text() == GOOD
