"""Services on many servers respond recorded as they do bare, and the numbers are right.

The table in docs/reliability.md is made of these tests, by `make services`.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

import services
from ahead import Ahead
from aqltelemetry.audit.verify import Verdict, verify
from aqltelemetry.journal.location import all_roots
from published_names import is_published
from services import BARE, SERVICES, WAYS, Seen, Service

Runs: TypeAlias = Ahead[tuple[str, str], tuple[Seen, Path]]
"""By the name of the service and the way of recording: what was seen, and the recording."""
Property: TypeAlias = Callable[[str, object], None]
_BY_NAME = {service.name: service for service in SERVICES}
# By the scope of the parameter, the tests of a service follow each other.
pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("service", _BY_NAME, scope="module"),
    pytest.mark.parametrize("way", WAYS),
]


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """Run the selected services when they are asked for, bare and in each way at the same time."""
    cases = [
        (str(item.callspec.params["service"]), str(item.callspec.params["way"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    keys = [(service, each) for service, way in cases for each in (BARE, way)]
    tmp_path_factory.getbasetemp()  # its first call, on several threads, removes what they make

    def run(key: tuple[str, str]) -> tuple[Seen, Path]:
        service, way = key
        cwd = tmp_path_factory.mktemp("service") / "run"
        return services.run(_BY_NAME[service], way, cwd), cwd / "monitoring"

    with Ahead(keys, run, at_once=1 + len(WAYS)) as runs:
        yield runs


class Case:
    """A service as it was seen bare and recorded, and the directory of the recording."""

    def __init__(self, service: Service, bare: Seen, recorded: Seen, directory: Path) -> None:
        self.service = service
        self.bare = bare
        self.recorded = recorded
        self.directory = directory

    def durations(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in self.directory.glob("duration.*.csv"):
            with path.open(newline="", encoding="utf-8") as file:
                found.update(row["Label"] for row in csv.DictReader(file))
        return found


@pytest.fixture
def case(runs: Runs, service: str, way: str, record_property: Property) -> Case:
    record_property("service", service)
    record_property("way", way)
    bare, _ = runs.result((service, BARE))
    recorded, directory = runs.result((service, way))
    return Case(_BY_NAME[service], bare, recorded, directory)


def test_a_recorded_service_responds_as_a_bare_one(case: Case) -> None:
    assert case.recorded.answers == case.bare.answers
    statuses = Counter(status for _, status, _, _ in case.bare.answers.elements())
    wanted, _ = services.expected()
    assert statuses[500] == wanted["/fail [GET] 5xx"]
    assert statuses[404] == wanted["unmatched 4xx"]
    assert statuses[200] == len(services.requests()) - statuses[500] - statuses[404]


def test_each_request_is_counted_once(case: Case) -> None:
    kinds: Counter[str] = Counter()
    for label, times in case.durations().items():
        kind = label.rpartition(" ")[2]
        kinds[kind if kind in ("4xx", "5xx", "ttfb", "disconnect") else "total"] += times
    del kinds["ttfb"]
    wanted, _ = services.expected()
    assert kinds == {
        "total": len(services.requests()),
        "4xx": wanted["unmatched 4xx"],
        "5xx": wanted["/fail [GET] 5xx"],
    }
    assert [problem for each in _verdicts(case) for problem in each.problems] == []


def test_the_labels_are_the_templates_of_the_routes(case: Case) -> None:
    wanted, first_bytes = services.expected()
    found = case.durations()
    assert found - first_bytes == wanted
    assert found - wanted <= first_bytes


def test_a_recorded_service_stops_as_a_bare_one_with_everything_published(case: Case) -> None:
    assert case.recorded.exit_code == case.bare.exit_code, case.recorded.output
    assert case.recorded.tracebacks == case.bare.tracebacks, case.recorded.output
    assert all(is_published(path.name) for path in case.directory.rglob("*"))
    assert sum(each.in_journal for each in _verdicts(case)) == 0


def _verdicts(case: Case) -> Sequence[Verdict]:
    return verify(case.directory, all_roots(str(case.directory)))
