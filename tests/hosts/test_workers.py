"""Each request that a Gunicorn worker answered is in the files once, however the worker ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

import matrix
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.location import all_roots
from aqltelemetry.sinks.file_names import parse
from servers import WORKERS, recover

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
Cells: TypeAlias = Mapping[tuple[str, str], tuple[Path, Future[matrix.Cell]]]


@pytest.fixture(scope="module")
def cells(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cells]:
    """Run the selected cells, two at a time, since they mostly wait."""
    wanted = [
        (str(item.callspec.params["worker"]), str(item.callspec.params["end"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    with ThreadPoolExecutor(2) as pool:
        running = {}
        for worker, end in wanted:
            path = tmp_path_factory.mktemp("cell")
            running[worker, end] = path, pool.submit(matrix.run, worker, end, path)
        yield running
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def cell(cells: Cells, worker: str, end: str) -> matrix.Cell:
    return cells[worker, end][1].result()


@pytest.fixture
def directory(cells: Cells, worker: str, end: str) -> Path:
    return cells[worker, end][0] / "monitoring"


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
    assert cell.killed or all(parse(path.name) for path in directory.rglob("*"))
    verdicts = verify(directory, all_roots(str(directory)))
    assert [problem for each in verdicts for problem in each.problems] == []
