"""What code made a result: the one place where code is digested.

A digest is over the top-level statements of a module and of all of this library that it imports,
taken as a set. It holds what they do, and not what they say or where they stand: comments,
docstrings, annotations of functions, import statements, names of files and of imported modules are
left out, so that a result stays valid where a file is moved, renamed, split or explained.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
# What they do decides no number: values of parameters are ingredients of every key themselves.
NO_NUMBERS = frozenset(
    {
        "params",
        "errors",
        "atomic",
        "provenance",
        "compute",
        "kernels",
        "command",
        "progress",
        "types",
        "__init__",
    }
)


def key(*ingredients: Any) -> str:
    """Digest of ingredients that JSON can hold: parameters, digests of data and of code."""
    return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()


def code(module: str | Path) -> str:
    """Digest of the code of a module, by its file, and of what it imports of the library.

    Modules of `NO_NUMBERS` are left out, with what only they import.
    """
    return _digest_files(frozenset(closure(module, NO_NUMBERS)))


def closure(
    module: str | Path, without: Collection[str] = (), package: Path = PACKAGE
) -> set[Path]:
    """Source files of a module and of what it imports of `package`, directly or not."""
    start = Path(module).resolve()
    found, todo = {start}, [start]
    while todo:
        for path in _imported(todo.pop(), package):
            if path not in found and path.stem not in without:
                found.add(path)
                todo.append(path)
    return found


@cache
def _digest_files(files: frozenset[Path]) -> str:
    return hashlib.sha256(
        "\n".join(sorted(set().union(*map(_statements, files)))).encode()
    ).hexdigest()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _imported(path: Path, package: Path) -> list[Path]:
    """Files of the package that a file imports, anywhere in it."""
    found: list[Path] = []
    for node in ast.walk(_tree(path)):
        for name in _module_names(node, package.name):
            parts = name.split(".")[1:]
            for k in range(len(parts) + 1):
                at = package.joinpath(*parts[:k])
                found += [p for p in (at / "__init__.py", at.with_suffix(".py")) if p.is_file()]
    return sorted(set(found) - {path})


def _module_names(node: ast.AST, package: str) -> Iterator[str]:
    """Dotted names that may be modules of the package."""
    if isinstance(node, ast.Import):
        names: Iterable[str] = (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = (f"{node.module}.{alias.name}" for alias in node.names)
    else:
        return
    yield from (name for name in names if name.split(".")[0] == package)


@cache
def _statements(path: Path) -> frozenset[str]:
    """Digests of a file's top-level statements."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name
        for alias in node.names
        if alias.name.islower()
    }
    tree = _Bare(modules).visit(ast.parse(path.read_text()))
    return frozenset(hashlib.sha256(ast.dump(node).encode()).hexdigest() for node in tree.body)


class _Bare(ast.NodeTransformer):
    """Leave what a file does: see the module's description."""

    def __init__(self, modules: set[str]) -> None:
        self._modules = modules

    def visit_Import(self, _: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, _: ast.ImportFrom) -> None:
        return None

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """`module.name` of the library is `name`, as where it is imported by itself."""
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            return ast.Name(node.attr, node.ctx)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._body(node)

    def _body(self, node: ast.FunctionDef | ast.ClassDef | ast.Module) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        return node
