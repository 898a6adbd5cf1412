"""Digests of code: they change with what code does, and with nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from zetalib import provenance
from zetalib.training import engine

ROOT = Path(__file__).parents[1]
PARTS = {
    "__init__": "",
    "solver": '''"""One step."""
from zetalib import sums
from zetalib.errors import ZetaError


def step(x: float, y: int) -> float:
    """Take a step."""
    return sums.total(x) * y  # twice at most
''',
    "sums": "LIMIT = 3\n\n\ndef total(x):\n    return min(x, LIMIT)\n",
    "errors": "class ZetaError(Exception): ...\n",
    "unused": "x = 1\n",
}


def digest(folder, parts):
    """Of the module with the function `step` of a library of these files."""
    package = folder / "zetalib"
    for name, text in {**parts, "provenance": Path(provenance.__file__).read_text()}.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (start,) = [name for name, text in parts.items() if "def step" in text]
    code = f"from zetalib import provenance; print(provenance.code('zetalib/{start}.py'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


SAME = {
    "comments, docstrings, annotations": {
        **PARTS,
        "solver": PARTS["solver"]
        .replace("Take a step.", "Step.")
        .replace("# twice at most", "")
        .replace("x: float, y: int", "x, y"),
    },
    "another file's name": {
        **{k: v for k, v in PARTS.items() if k not in ("solver", "sums")},
        "inverse/__init__": "",
        "inverse/follow": PARTS["solver"]
        .replace("from zetalib import sums", "from zetalib.inverse import partial_sums")
        .replace("sums.total", "partial_sums.total"),
        "inverse/partial_sums": PARTS["sums"],
    },
    "a name imported by itself": {
        **PARTS,
        "solver": PARTS["solver"]
        .replace("from zetalib import sums", "from zetalib.sums import total")
        .replace("sums.total", "total"),
    },
    "a file split in two": {
        **PARTS,
        "sums": "from zetalib.bounds import LIMIT\n\n\ndef total(x):\n    return min(x, LIMIT)\n",
        "bounds": "LIMIT = 3\n",
    },
    "what is not imported": {**PARTS, "unused": "x = 2\n"},
    "what decides no number": {**PARTS, "errors": "class ZetaError(ValueError): ...\n"},
}
OTHER = {
    "a constant of what is imported": {**PARTS, "sums": PARTS["sums"].replace("3", "4")},
    "an operation": {**PARTS, "solver": PARTS["solver"].replace("* y", "+ y")},
    "a default": {**PARTS, "sums": PARTS["sums"].replace("(x):", "(x=0):")},
}


@pytest.mark.parametrize("change", SAME)
def test_what_is_said_and_where_it_stands_changes_no_digest(tmp_path, change):
    assert digest(tmp_path / "a", PARTS) == digest(tmp_path / "b", SAME[change])


@pytest.mark.parametrize("change", OTHER)
def test_what_is_done_does(tmp_path, change):
    assert digest(tmp_path / "a", PARTS) != digest(tmp_path / "b", OTHER[change])


def test_the_closure_of_training_holds_what_decides_its_weights():
    names = {path.stem for path in provenance.closure(engine.__file__, provenance.NO_NUMBERS)}
    assert {"batches", "losses", "model", "optimizers", "positions", "engine"} <= names
    assert not names & provenance.NO_NUMBERS and "evaluate" not in names


def test_code_is_digested_in_one_place():
    """No other module reads sources to digest them."""
    for path in (ROOT / "zetalib").rglob("*.py"):
        if path.name != "provenance.py":
            text = path.read_text()
            assert "ast.dump" not in text and "ModuleFinder" not in text, path
            assert "__file__).read_bytes" not in text, path
