"""params.yaml: everything wrong with it is named by its path before anything runs."""

import pytest
from conftest import ROOT
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from zetalib import params
from zetalib.errors import ZetaError
from zetalib.reports.experiments import flatten

GOOD = (ROOT / "params.yaml").read_text()


def test_the_defaults_are_valid():
    p = params.load(ROOT / "params.yaml")
    assert p.window.length == 256 and p.download.source == "odlyzko"


def test_every_list_can_be_emptied_from_the_command_line(tmp_path):
    """DVC writes params.yaml by ruamel.yaml, which breaks what follows a commented, emptied list."""
    before = dict(flatten(YAML(typ="safe").load(GOOD)))
    lists = [key for key, value in before.items() if isinstance(value, list)]
    assert len(lists) > 10
    for key in lists:
        (tmp_path / "params.yaml").write_text(GOOD)
        apply_overrides(str(tmp_path / "params.yaml"), [f"{key}=[]"])
        after = dict(flatten(YAML(typ="safe").load((tmp_path / "params.yaml").read_text())))
        assert after == {**before, key: []}


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


# ------------------------------------------------------------- what is asked for must be here


def asked(**changes):
    content = YAML(typ="safe").load(GOOD)
    for path, value in changes.items():
        section, name = path.split("__")
        content[section][name] = value
    return content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill__backend": "pysr"}, r"distill\.backend: pysr asked for, and the package is not installed\. .*pip install -e '\.\[pysr\]'"),
        ({"train__wandb": "online"}, r"train\.wandb: online asked for, .*pip install -e '\.\[wandb\]'"),
        ({"train__wandb": "offline"}, r"train\.wandb: offline asked for"),
        ({"train__device": "cuda"}, r"train\.device: cuda asked for, and there is no driver"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_not_here_is_said_before_anything_runs(monkeypatch, changes, message):
    monkeypatch.setattr(params, "installed", lambda _: False)
    monkeypatch.setattr(params, "has_driver", lambda: False)
    with pytest.raises(ZetaError, match=message) as caught:
        params.check(asked(**changes))
    assert "julia is" not in str(caught.value).lower()
    monkeypatch.setattr(params, "installed", lambda _: True)
    monkeypatch.setattr(params, "has_driver", lambda: True)
    params.check(asked(**changes))


def test_the_defaults_ask_for_nothing_that_may_be_missing(monkeypatch):
    monkeypatch.setattr(params, "installed", lambda _: False)
    monkeypatch.setattr(params, "has_driver", lambda: False)
    params.check(asked())


def test_a_package_is_found_without_importing_it():
    import sys

    assert params.installed("antigravity") and "antigravity" not in sys.modules
    assert not params.installed("no_such_package_at_all")


NO_HEIGHTS = {
    "model__inversion": False,
    "invert__solve": False,
    "evaluate__explicit": 0,
    "distill__features": ["spacings"],
}


def test_variant_a_is_refused_to_whatever_takes_its_spacings_for_those_of_b():
    with pytest.raises(ZetaError, match=r"unfold\.variant must be B for model\.inversion, invert\.solve"):  # fmt: skip
        params.check(asked(unfold__variant="A"))
    params.check(asked(unfold__variant="A", **NO_HEIGHTS))
    for name in NO_HEIGHTS:
        some = {key: value for key, value in NO_HEIGHTS.items() if key != name}
        if name == "invert__solve" or name == "model__inversion":
            some["invert__solve"] = True
        with pytest.raises(ZetaError, match=f"must be B for .*{name.split('__')[0]}"):
            params.check(asked(unfold__variant="A", **some))
    with pytest.raises(ZetaError, match=r"must be B for model\.positions"):
        params.check(asked(unfold__variant="A", **NO_HEIGHTS, model__positions="arithmetic"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\n\tb: 2\n", r"not valid YAML \(line 2: found character"),
        (b"a: 1\na: 2\n", r"not valid YAML \(line 2: found duplicate key"),
        (b"a: *b\n", r"not valid YAML \(line 1: found undefined alias"),
        (b"a: 1\n---\nb: 1\n", r"not valid YAML \(line 2: but found another document"),
        (b"a: \xe9\n", r"at byte 3: not UTF-8, as YAML must be \(0xe9\)"),
    ],
)
def test_what_is_no_yaml_is_one_short_line(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ZetaError, match=message) as caught:
        params.load(path)
    assert "http" not in str(caught.value)


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ZetaError, match="cannot be read .*directory"):
        params.load(tmp_path / "params.yaml")
