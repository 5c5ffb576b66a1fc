"""The parts of a recording are complete once they are made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from aqltelemetry import runtime

_MODULES = sorted(Path(runtime.__file__).parent.glob("*.py"))


def _assigned(node: ast.AST) -> set[str]:
    """Return the names of the attributes of `self` that are assigned below a node."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
        if isinstance(each.value, ast.Name) and each.value.id == "self"
    }


def _later(path: Path) -> Iterator[str]:
    """Yield the attributes that a method other than `__init__` assigns first."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            made: set[str] = set()
            for method in methods:
                if method.name == "__init__":
                    made = _assigned(method)
            yield from (f"{node.name}.{name}" for name in _assigned(node) - made)


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_each_attribute_of_an_object_is_set_when_it_is_made(path: Path) -> None:
    assert [*_later(path)] == []
