import pytest
from conftest import ROOT

from zetalib.errors import ZetaError
from zetalib.reports import experiments

FOLDER, PARAMS = ROOT / "experiments", ROOT / "params.yaml"


def differences(one, other):
    before = dict(experiments.flatten(one))
    return {k: v for k, v in experiments.flatten(other) if k not in before or before[k] != v}


@pytest.mark.parametrize("size", [None, *experiments.sizes(FOLDER)])
@pytest.mark.parametrize("name", experiments.names(FOLDER))
def test_every_named_experiment_is_valid_at_every_size(name, size):
    assert experiments.overrides(name, size, FOLDER, PARAMS)


def test_names_are_told_apart():
    found = experiments.names(FOLDER)
    assert len(found) == len(set(found))
    assert {"E0", "E1", "E2", "E3", "E4", "E5", "Q3", "Q3-leaky", "Flash"} <= set(found)
    assert not set(found) & set(experiments.sizes(FOLDER))


def test_an_experiment_says_what_a_model_is_and_a_size_how_large():
    published = experiments.resolve("E0", "published", FOLDER, PARAMS)
    assert (published.model.layers, published.model.lags, published.train.lr) == (6, 1, 3e-4)
    small = experiments.resolve("E0", "small", FOLDER, PARAMS)
    assert small.model.layers == 3 and small.train.max_minutes is not None
    assert published.model.target == small.model.target == "spacing"


def test_extending_keeps_what_is_not_said_anew():
    e1, e2 = (experiments.resolve(name, "small", FOLDER, PARAMS) for name in ("E1", "E2"))
    assert (e1.losses.drift, e1.losses.drift_horizon) == (0.01, 10)
    assert (e2.losses.drift, e2.losses.drift_horizon) == (0.1, 20)
    assert e1.memory == e2.memory and e2.losses.statistics == 0.1


def test_the_leaky_control_differs_from_q3_in_its_mask_alone():
    q3, leaky = (experiments.changes(name, "small", FOLDER) for name in ("Q3", "Q3-leaky"))
    differ = differences(q3, leaky)
    assert differ == {"memory.mask": "leaky"}


@pytest.mark.parametrize("name", ["Q3-fade", "Q3-gate"])
def test_a_remedy_of_rollouts_is_trained_as_q3(name):
    q3, remedy = (experiments.resolve(n, "small", FOLDER, PARAMS) for n in ("Q3", name))
    assert remedy.evaluate != q3.evaluate
    assert remedy.model_copy(update={"evaluate": q3.evaluate}) == q3


def test_the_control_of_the_primes_differs_in_its_frequencies_alone():
    primes, control = (
        experiments.changes(name, "small", FOLDER) for name in ("arithmetic", "arithmetic-random")
    )
    differ = differences(primes, control)
    assert differ == {"model.frequencies": "random"}


def test_overrides_are_those_of_the_files_the_experiments_last():
    found = experiments.overrides("arithmetic", "small", FOLDER, PARAMS)
    assert {"model.lags=24", "train.lr=0.003", "model.positions=arithmetic"} <= set(found)
    assert "model.positions=learned" not in found


def test_values_are_written_as_hydra_reads_them(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "download: {max_zeros: null}\ntrain: {compile: true}\ncalibrate: {levels: [0.5, 0.9]}\n"
        "memory: {kind: prefix}\nlosses: {diversity: [[0, 0.0], [500, 0.01]]}\n"
    )
    found = experiments.overrides("x", folder=tmp_path, params_file=PARAMS)
    assert found == [
        "download.max_zeros=null",
        "train.compile=true",
        "calibrate.levels=[0.5,0.9]",
        "memory.kind=prefix",
        "losses.diversity=[[0,0.0],[500,0.01]]",
    ]


def test_ramps_reach_params_yaml(tmp_path):
    from dvc.utils.hydra import apply_overrides

    from zetalib import params

    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text())
    apply_overrides(str(path), experiments.overrides("E5", "small", FOLDER, PARAMS))
    assert params.load(path) == experiments.resolve("E5", "small", FOLDER, PARAMS)


def test_a_wrong_override_is_named_with_the_experiments_file(tmp_path):
    (tmp_path / "x.yaml").write_text("model: {widht: 3}\n")
    with pytest.raises(ZetaError, match=r"x\.yaml: model\.widht: unknown parameter"):
        experiments.overrides("x", folder=tmp_path, params_file=PARAMS)


def test_an_unknown_experiment_or_size_lists_the_known():
    with pytest.raises(ZetaError, match=r"E9\.yaml: no such experiment.*There are: .*E0"):
        experiments.resolve("E9", None, FOLDER, PARAMS)
    with pytest.raises(ZetaError, match=r"huge\.yaml: no such size.*There are: .*small"):
        experiments.resolve("E0", "huge", FOLDER, PARAMS)


def test_a_circle_of_extensions_is_named(tmp_path):
    (tmp_path / "x.yaml").write_text("extends: y\n")
    (tmp_path / "y.yaml").write_text("extends: x\n")
    with pytest.raises(ZetaError, match="extends itself"):
        experiments.changes("x", folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [\n", r"x\.yaml: not valid YAML"),
        ("", "no parameters in it"),
        ("- 1\n", "no parameters"),
    ],
)
def test_a_file_that_is_no_experiment_is_named(tmp_path, content, message):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(ZetaError, match=message):
        experiments.overrides("x", folder=tmp_path, params_file=PARAMS)
