"""That docs/reliability.md tells of each fault, each test in it is there, and how it is written."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import fault_matrix

_TESTS = Path(__file__).parent
_DOCUMENT = _TESTS.parent / "docs" / "reliability.md"
_STATE_MACHINE = "runTest"
"""How Hypothesis calls the one test of a state machine."""


def _tests() -> set[str]:
    """Return the names of all tests that there are."""
    names = set()
    for path in _TESTS.rglob("test_*.py"):
        for each in ast.walk(ast.parse(path.read_text())):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(each.name)
            elif isinstance(each, ast.Attribute) and each.attr == "TestCase":
                names.add(_STATE_MACHINE)
    return {name for name in names if name.startswith(("test_", _STATE_MACHINE))}


def _between(name: str) -> str:
    _, _, rest = _DOCUMENT.read_text().partition(f"<!-- {name}: ")
    text, end, _ = rest.partition(f"<!-- end of {name} -->")
    assert end
    return text


def _cells(name: str) -> list[list[str]]:
    lines = [line for line in _between(name).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_matrix_has_every_fault() -> None:
    numbers = re.findall(r"\d+", " ".join(row.number for row in fault_matrix.ROWS))
    assert {int(number) for number in numbers} == set(range(1, 46))


@pytest.mark.parametrize(
    "prefix", sorted({name for row in fault_matrix.ROWS for name in row.tests})
)
def test_each_test_of_the_matrix_is_there(prefix: str) -> None:
    assert any(name.startswith(prefix) for name in _tests())


def test_no_row_is_without_a_test() -> None:
    assert [row.number for row in fault_matrix.ROWS if not row.tests] == []
    known = set(fault_matrix.COUNTS)
    assert all(known.issuperset(row.counts) for row in fault_matrix.ROWS)


def test_the_document_has_each_row_of_the_matrix_and_nothing_failed() -> None:
    titles, _, *lines = _cells("matrix")
    assert titles == list(fault_matrix.COLUMNS)
    assert [tuple(line[:2]) for line in lines] == [
        fault_matrix.head(row) for row in fault_matrix.ROWS
    ]
    assert [line[-2] for line in lines] == [row.wanted for row in fault_matrix.ROWS]
    assert "**failed" not in _between("matrix")


def test_the_document_has_what_a_storm_counts() -> None:
    lines = dict(zip(*list(zip(*_cells("storm"), strict=True))[:2], strict=True))
    assert [lines[name] for name in ("lost", "duplicated", "damaged", "hangs")] == ["0"] * 4
    assert int(lines["kills"].replace(",", "")) >= 1_000


def test_each_test_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"\btest_\w+", _DOCUMENT.read_text()))
    assert named
    assert named - _tests() == set()


@pytest.mark.parametrize("point", [f"S{number}" for number in range(1, 15)])
def test_the_document_tells_of_each_security_point(point: str) -> None:
    assert f"| {point} |" in _DOCUMENT.read_text()


def test_a_table_is_put_between_its_markers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(_TESTS.parent / "benchmarks")
    from _document import put, table

    path = tmp_path / "document.md"
    path.write_text("before\n<!-- x: written -->\nold\n<!-- end of x -->\nafter\n")
    for _ in range(2):
        put(path, "x", table(["a", "b"], [["1", "2"]]))
    assert path.read_text() == (
        "before\n<!-- x: written -->\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "<!-- end of x -->\nafter\n"
    )
    with pytest.raises(ValueError, match="one pair of markers for 'y'"):
        put(path, "y", "")


def test_what_failed_or_was_not_found_is_no_zero() -> None:
    row = fault_matrix.Row("1", "a fault", "so", "lost 0", ("test_a",), counts=("lost",))
    passed = fault_matrix.Case("test_a[1]", True, "", {"runs": "7", "got": "it", "sum kills": "2"})
    skipped = passed._replace(passed=False, skipped="needs root")
    failed = passed._replace(passed=False)
    cells = {
        "passed": fault_matrix.line(row, [passed, passed._replace(name="test_b")]),
        "skipped": fault_matrix.line(row, [skipped]),
        "failed": fault_matrix.line(row, [passed, failed]),
        "missing": fault_matrix.line(row, []),
    }
    assert cells["passed"][2:] == ["7", "0", "-", "-", "0", "lost 0", "it; 2 kills"]
    assert cells["skipped"][2:7] == ["0", "-", "-", "-", "-"]
    assert cells["skipped"][-1].endswith("needs root")
    assert cells["failed"][2:7] == ["7", "-", "-", "-", "-"]
    assert cells["failed"][-1] == "**failed: test_a[1]**"
    assert cells["missing"][-1] == "**failed: no test found**"
