"""dvc.yaml against the code: each stage depends on what its script imports and on nothing else."""

import re
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from zetalib import provenance

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]

PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())


def sections(stage: str) -> set[str]:
    """Sections of the parameters that a stage depends on, or on a part of."""
    return {key.split(".")[0] for key in STAGES[stage].get("params", [])}


def import_closure(script: Path) -> set[str]:
    """The script and every file of the repository it imports, directly or not."""
    finder = ModuleFinder(path=[str(ROOT)])  # nothing outside the repository is looked into
    finder.run_script(str(script))
    files = {m.__file__ for m in finder.modules.values() if m.__file__}
    return {str(Path(f).resolve().relative_to(ROOT)) for f in files}


def used(stage: str) -> set[str]:
    """Files of code that decide what a stage writes."""
    found = provenance.closure(ROOT / "pipeline" / f"{stage}.py", provenance.NO_NUMBERS)
    return {str(path.relative_to(ROOT)) for path in found}


def code_deps(stage: str) -> set[str]:
    return {dep for dep in STAGES[stage]["deps"] if dep.startswith(("pipeline/", "zetalib/"))}


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_what_a_stage_imports(stage):
    """A file by its name, or by its folder where more than half of that is used."""
    expected, deps = used(stage), code_deps(stage)
    covered = {f for f in expected for d in deps if f == d or f.startswith(f"{d}/")}
    assert expected - covered == set(), "missing in dvc.yaml"
    for dep in deps:
        inside = {f for f in expected if f == dep or f.startswith(f"{dep}/")}
        there = [p for p in (ROOT / dep).rglob("*.py") if p.name != "__init__.py"] or [ROOT / dep]
        assert 2 * len(inside) > len(there), f"superfluous in dvc.yaml: {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_closure_is_that_of_python_itself(stage):
    script = ROOT / "pipeline" / f"{stage}.py"
    found = {str(path.relative_to(ROOT)) for path in provenance.closure(script)}
    assert found == import_closure(script) - {"pipeline/__init__.py"}


def test_what_is_left_out_decides_no_number():
    """Looked at by hand; what joins them is to be looked at, too."""
    front = {path.stem for path in (ROOT / "zetalib").glob("*.py")}
    assert front - provenance.NO_NUMBERS == {"guard", "shares"}
    assert front >= provenance.NO_NUMBERS


def test_a_baseline_reruns_what_shows_its_numbers_alone():
    path = "zetalib/baselines/sine_process.py"
    assert {stage for stage in STAGES if path in used(stage)} == {"baselines"}


@pytest.mark.parametrize("stage", ["laws", "rollouts", "baselines", "contexts", "invert"])
def test_what_is_made_once_for_all_networks_knows_of_none(stage):
    """So that neither a network nor its training makes it run again."""
    script = ROOT / "pipeline" / f"{stage}.py"
    files = {str(path.relative_to(ROOT)) for path in provenance.closure(script)}
    assert not {f for f in files if f.startswith(("zetalib/network/", "zetalib/training/"))}
    assert not {"model", "memory", "losses", "train"} & sections(stage)
    depends = {path.split("/")[1] for path in STAGES[stage]["deps"] if path.startswith("data/")}
    assert not depends & {"model", "forecasts", "calibrator.json"}


def test_the_guard_knows_what_stage_rollouts_writes(defaults):
    """Or DVC would be kept from replacing it."""
    from zetalib import guard
    from zetalib.forecasting import stretches

    sections = (defaults.evaluate, defaults.calibrate, defaults.diagnose, defaults.laws)
    written = {
        f"{split}_{name}.safetensors"
        for split, wanted in stretches.plans(*sections).items()
        for name in wanted
    }
    folder = Path("data/rollouts")
    assert guard.FILES[folder] == written | {"val_intervals.safetensors"}  # of earlier versions
    ours = guard._written(folder)
    for name in written:
        whole = folder / name
        assert ours(whole.with_name(f".{whole.name}.partial"))


@pytest.mark.parametrize(
    "mine", ["mine.txt", "val/mine.txt", "scores.safetensors", "val/.rivals.safetensors.partial"]
)
def test_the_guard_keeps_what_a_user_put_among_them(mine, tmp_path, monkeypatch):
    from zetalib import guard
    from zetalib.errors import ZetaError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(guard, "_cached", lambda repo, path: False)
    folder = Path("data/rollouts")
    for name in guard.FILES[folder] | {".val_scores.safetensors.partial"}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    found = {str(path.relative_to(folder)) for path in guard._named_as_ours(None, folder)}
    assert found == guard.FILES[folder]
    (folder / mine).parent.mkdir(parents=True, exist_ok=True)
    (folder / mine).touch()
    with pytest.raises(ZetaError, match="not one that the pipeline wrote"):
        list(guard._named_as_ours(None, folder))


class Recorder:
    """A section of the parameters that keeps which of them were looked at."""

    def __init__(self, name, section, seen):
        self.name, self.section, self.seen = name, section, seen

    def __getattr__(self, key):
        self.seen.add(f"{self.name}.{key}")
        return getattr(self.section, key)


def test_rollouts_depends_on_the_very_parameters_it_looks_at(defaults):
    """Others of the same sections are of the network's scores: they change often."""
    from zetalib.forecasting import stretches

    script = (ROOT / "pipeline" / "rollouts.py").read_text()
    assert "stretches.plans(p.evaluate, p.calibrate, p.diagnose, p.laws)" in script
    seen = {f"{section}.{key}" for section, key in re.findall(r"\bp\.(\w+)\.(\w+)", script)}
    names = ("evaluate", "calibrate", "diagnose", "laws")
    stretches.plans(*(Recorder(name, getattr(defaults, name), seen) for name in names))
    declared = STAGES["rollouts"]["params"]
    whole = {key for key in declared if "." not in key}
    assert {key for key in seen if key.split(".")[0] not in whole} == set(declared) - whole


def test_the_graph_is_short_enough_to_read():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 300


def test_closure_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, code in {
        "plain": "import package.inner",
        "inner": "",
        "from_package": "from package import member",
        "member": "def f():\n    from package.late import x",
        "late": "from .relative import y\nx = 1",
        "relative": "y = 2",
        "unused": "",
    }.items():
        (package / f"{name}.py").write_text(code)
    script = tmp_path / "script.py"
    script.write_text("import package.plain\nfrom package import from_package\nimport json\n")
    names = {Path(f).stem for f in import_closure(script)}
    assert names == {
        "script",
        "__init__",
        "plain",
        "inner",
        "from_package",
        "member",
        "late",
        "relative",
    }


@pytest.mark.parametrize("stage", STAGES)
def test_stage_runs_its_script_and_depends_on_its_params(stage):
    assert STAGES[stage]["cmd"] == f"python -m pipeline.{stage}"
    assert STAGES[stage]["desc"]
    own = re.findall(
        r"\.load\(\)\.(\w+)|\bp\.(\w+)", (ROOT / "pipeline" / f"{stage}.py").read_text()
    )
    used = {a or b for a, b in own} & set(PARAMS)
    used -= {"compute"}  # who works: no result depends on it
    assert sections(stage) == used
    for key in STAGES[stage].get("params", []):  # a part of a section is one that there is
        section, _, part = key.partition(".")
        assert not part or part in PARAMS[section]
