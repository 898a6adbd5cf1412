"""The rooms of the library, and the one direction imports go in: docs/architecture.md."""

import ast
import importlib
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
LIBRARY = sorted((ROOT / "zetalib").rglob("*.py"))
DOORS = {"guard.py"}  # of the front: they open on rooms


def levels() -> dict[str, int]:
    """The level of each room, as the page states the direction."""
    (line,) = re.findall(r"^    (theory, .*)$", PAGE, re.MULTILINE)
    steps = re.sub(r"[^a-z, >]", "", line).split(">")
    return {room: k for k, step in enumerate(steps) for room in re.findall(r"[a-z]+", step)}


def imported(path: Path) -> set[str]:
    """Rooms and modules of the front that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zetalib":
            room = node.module.split(".")[1:2]
            found |= set(room) if room else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("zetalib.")}
    return found


def test_the_page_fits_a_screen_and_names_every_room():
    assert len(PAGE.splitlines()) <= 50
    rooms = {path.parent.name for path in LIBRARY if path.parent.name != "zetalib"}
    assert set(levels()) - {"pipeline"} == rooms
    for room in rooms:
        assert f"`{room}/`" in PAGE


def test_the_page_names_every_module_where_it_is():
    for path in LIBRARY:
        if path.name != "__init__.py":
            room = path.parent.name if path.parent.name != "zetalib" else "zetalib"
            (row,) = re.findall(rf"^\| `{room}/` \|.*$", PAGE, re.MULTILINE)
            assert re.search(rf"\b{path.stem}\b", row), path


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT / "zetalib")))
def test_imports_go_in_the_direction_that_the_page_states(path):
    level = levels()
    front = {p.stem for p in (ROOT / "zetalib").glob("*.py")}
    here = path.parent.name
    for name in imported(path) - {here}:
        if name in front:
            continue  # the front's own modules stand below every room
        if here == "zetalib":
            assert path.name in DOORS, f"{path.name} of the front imports the room {name}"
        else:
            assert level[name] < level[here], f"{here}/{path.name} imports {name}"


def test_the_library_imports_no_stage():
    for path in LIBRARY:
        assert not re.search(r"^\s*(from|import) pipeline", path.read_text(), re.MULTILINE), path


def test_the_library_imports_without_the_extras():
    """`pip install .` alone: what the extras bring is imported where it is used."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = {"dvc", "dvclive", "matplotlib", "requests", "sympy", "pyoperon", "dask", "psutil"}
    core = {re.split(r"[=<>]", name)[0] for name in project["dependencies"]}
    assert not core & extras and "torch" in core
    allowed = {"reports", "distill", "lmfdb"}
    for path in LIBRARY:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found = {name.split(".")[0] for name in names} & (extras | {"distributed"})
            assert not found or {path.parent.name, path.stem} & allowed, (path, found)


def test_what_is_cited_is_in_the_reference():
    """docs/reference.md, 1.4 is a heading, 2.7 an item of its part 2."""
    reference = (ROOT / "docs" / "reference.md").read_text()
    first, second = reference.split("## 2. ")
    texts = [
        p for folder in ("zetalib", "tests", "experiments") for p in (ROOT / folder).rglob("*")
    ]
    cited = {
        number
        for path in texts
        if path.suffix in (".py", ".yaml")
        for number in re.findall(r"docs/reference\.md, (\d\.\d)", path.read_text())
    }
    assert len(cited) >= 5
    for number in cited:
        part, item = number.split(".")
        place = rf"^### {number} " if part == "1" else rf"^{item}\. "
        assert re.search(place, first if part == "1" else second, re.MULTILINE), number


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_what_a_benchmark_takes_of_the_library_is_there(path):
    """No test runs them: a name that has moved would be found by who runs one next."""
    tree = ast.parse(path.read_text())
    taken = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zetalib":
            parent = importlib.import_module(node.module)
            for alias in node.names:
                found = getattr(parent, alias.name, None)
                if found is None:
                    found = importlib.import_module(f"{node.module}.{alias.name}")
                taken[alias.asname or alias.name] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = taken.get(node.value.id)
            if isinstance(module, ModuleType):
                assert hasattr(module, node.attr), f"{path.name}:{node.lineno}: {node.attr}"
