"""That docs/reliability.md says what was tested, of every fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from _document import RELIABILITY, put
from fault_matrix import ROWS, Row, _Case, _cells, matching

_TESTS = Path(__file__).parent
_FAULTS = range(1, 46)


@cache
def _names() -> set[str]:
    """Return the names of all tests, and of Hypothesis's state machines."""
    return {
        node.name
        for path in _TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    } | {"runTest"}


def _numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", text)}


def test_every_fault_has_a_row() -> None:
    assert set[int]().union(*(_numbers(row.number) for row in ROWS)) == set(_FAULTS)


def test_the_tests_of_each_row_exist() -> None:
    tests = [(row.number, each) for row in ROWS for each in row.tests]
    missing = [
        (number, prefix)
        for number, prefix in tests
        if not any(name.startswith(prefix) for name in _names())
    ]
    assert missing == []


def test_a_test_of_a_row_is_in_the_matrix() -> None:
    named = {name for name in _names() if name.startswith("test_row_")}
    assert named == {name for row in ROWS for name in matching(row, named)}


def test_the_report_holds_each_row_and_no_failure() -> None:
    _, _, rest = RELIABILITY.read_text().partition("<!-- matrix: ")
    text, _, _ = rest.partition("<!-- end of matrix -->")
    lines = re.findall(r"^\| ([\d, ]+|all) \|", text, re.MULTILINE)
    assert lines == [row.number for row in ROWS]
    assert "**failed" not in text


def test_what_is_put_into_a_document_replaces_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "document.md"
    path.write_text("a\n<!-- x: of old -->\nold\n<!-- end of x -->\nb\n")
    put(path, "x", "new")
    assert path.read_text() == "a\n<!-- x: of old -->\n\nnew\n\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="pair of markers for 'y'"):
        put(path, "y", "new")


def test_what_failed_skipped_or_was_not_counted_is_no_zero() -> None:
    row = Row("1", "a fault", "so", "lost 0", ("test_a",), counted=("lost",))
    passed = _Case("test_a[1]", True, "", {"runs": "7", "got": "it", "sum kills": "2"})
    skipped = _Case("test_a[2]", False, "needs root", {})
    failed = _Case("test_a[3]", False, "", {})
    assert _cells(row, [passed])[2:] == ["7", "0", "-", "-", "0", "lost 0", "it; 2 kills"]
    assert _cells(row, [skipped])[2:] == ["0", "-", "-", "-", "-", "lost 0", "needs root"]
    assert _cells(row, [passed, failed])[3:7] == ["-"] * 4
    assert _cells(row, [passed, failed])[-1] == "**failed: test_a[3]**"
