"""dvc.yaml against the code: each stage depends on exactly the files its script imports."""

import re
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def import_closure(script: Path) -> set[str]:
    """The script and every file of the repository it imports, directly or not."""
    finder = ModuleFinder(path=[str(ROOT)])  # nothing outside the repository is looked into
    finder.run_script(str(script))
    files = {m.__file__ for m in finder.modules.values() if m.__file__}
    return {str(Path(f).resolve().relative_to(ROOT)) for f in files}


def code_deps(stage: str) -> set[str]:
    return {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    expected = import_closure(ROOT / "pipeline" / f"{stage}.py")
    assert expected - code_deps(stage) == set(), "missing in dvc.yaml"
    assert code_deps(stage) - expected == set(), "superfluous in dvc.yaml"


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
    used = {a or b for a, b in own} & set(YAML(typ="safe").load((ROOT / "params.yaml").read_text()))
    used -= {"compute"}  # who works: no result depends on it
    assert set(STAGES[stage].get("params", [])) == used
