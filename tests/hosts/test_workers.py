"""Each request that a Gunicorn worker answered is in the files once, however the worker ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import matrix
from ahead import Ahead
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import all_roots
from published_names import is_published
from servers import WORKERS, recover

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
Cells: TypeAlias = Ahead[tuple[str, str], tuple[matrix.Cell, Path]]


@pytest.fixture(scope="module")
def cells(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cells]:
    """Run the selected cells when they are asked for, and the next one, since they mostly wait."""
    keys = [
        (str(item.callspec.params["worker"]), str(item.callspec.params["end"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    tmp_path_factory.getbasetemp()  # its first call, on several threads, removes what they make

    def run(key: tuple[str, str]) -> tuple[matrix.Cell, Path]:
        path = tmp_path_factory.mktemp("cell")
        return matrix.run(*key, path), path / "monitoring"

    with Ahead(keys, run, at_once=2) as cells:
        yield cells


@pytest.fixture
def cell(cells: Cells, worker: str, end: str) -> matrix.Cell:
    return cells.result((worker, end))[0]


@pytest.fixture
def directory(cells: Cells, worker: str, end: str) -> Path:
    return cells.result((worker, end))[1]


@pytest.mark.parametrize("end", matrix.ENDS)
@pytest.mark.parametrize("worker", WORKERS)
async def test_each_answered_request_is_in_the_files_once(
    cell: matrix.Cell,
    directory: Path,
    rows: Rows,
    record_property: Callable[[str, object], None],
    worker: str,
    end: str,
) -> None:
    await recover(directory)
    recorded = rows()
    found = Counter(int(row["PID"]) for row in recorded if row["Label"] == matrix.RECORDED)
    record_property("sum requests answered", cell.answered.total())
    record_property("sum of them in the files", found.total())
    record_property(matrix.CELL, (worker, end, cell.answered.total(), found.total()))
    matrix.check(cell, found)
    # A request may be broken off before its route was found, never one that was answered.
    unmatched = sum(row["Label"] == "unmatched" for row in recorded)
    assert unmatched <= cell.unsure * len(cell.killed)
    # What a killed process was writing is removed later.
    assert cell.killed or all(is_published(path.name) for path in directory.rglob("*"))
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for each in verdicts for problem in each.problems] == []
