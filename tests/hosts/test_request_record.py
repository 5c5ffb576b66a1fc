from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

import pytest

from aqltelemetry.hosts import request_record
from aqltelemetry.hosts.labels import EVENTS, RequestLabels
from aqltelemetry.hosts.request_record import InFlight, RequestRecord
from aqltelemetry.journal.in_flight import FILE_BYTES
from aqltelemetry.journal.reader import read_segment
from aqltelemetry.recording import in_flight, recorder
from fakes import FakeClock, memory_segments, recording

Recorded = Callable[[], dict[str, float]]
_LABELS = RequestLabels().of("/x", "GET")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(1_000)
    monkeypatch.setattr(request_record, "monotonic_ns", clock)
    return clock


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Record into a segment; return its only value for each label."""
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)

    def read() -> dict[str, float]:
        batch = read_segment(segment.map[:], recovered=False, yield_gil=lambda: None).batch
        assert all(len(column.values) == 1 for column in batch.columns)
        return {column.series.label: column.values[0] for column in batch.columns}

    yield read
    recorder.remove(session)


def test_labels_are_templates_and_methods() -> None:
    labels = RequestLabels()
    assert labels.of("/users/{id}", "GET") == (
        *("/users/{id} [GET]", "/users/{id} [GET] ttfb"),
        *("/users/{id} [GET] 4xx", "/users/{id} [GET] 5xx", "/users/{id} [GET] disconnect"),
    )
    assert labels.of("/users/{id}", "PROPFIND").total == "/users/{id} [OTHER]"
    assert labels.of("/users/{id}", "GET", EVENTS).client_error == "/users/{id} [GET] events 4xx"
    assert labels.of(None, "GET").total == "unmatched"


def test_labels_are_created_once() -> None:
    labels = RequestLabels()
    for template in ("/users/{id}", None):
        assert labels.of(template, "GET") is labels.of(template, "GET")


def test_methods_that_clients_invent_are_not_kept() -> None:
    labels = RequestLabels(max_templates=2)
    for number in range(10_000):
        labels.of(f"/{number}", f"METHOD{number}", EVENTS)
        labels.of("/0", f"METHOD{number}")
        labels.of(None, f"METHOD{number}")
    assert sum(len(each) for each in (labels._templates, labels._known)) <= 4


def test_templates_beyond_the_limit_share_one() -> None:
    labels = RequestLabels(max_templates=2)
    made = [labels.of(f"/{number}", "GET").total for number in (1, 2, 3, 4, 1)]
    assert made == ["/1 [GET]", "/2 [GET]", "other [GET]", "other [GET]", "/1 [GET]"]


def test_total_and_time_to_first_byte_are_both_recorded(
    clock: FakeClock, recorded: Recorded
) -> None:
    one = RequestRecord()
    clock.now_ns += 5
    one.first_byte()
    clock.now_ns += 5
    one.first_byte()
    one.status = 200
    one.end(_LABELS, with_ttfb=True)
    assert recorded() == {"/x [GET]": 10, "/x [GET] ttfb": 5}


@pytest.mark.parametrize(
    ("status", "disconnected", "outcome"),
    [
        (200, False, ""),
        (302, False, ""),
        (404, False, " 4xx"),
        (503, False, " 5xx"),
        (200, True, " disconnect"),
        (0, False, ""),
    ],
)
def test_a_failed_request_has_one_more_observation(
    clock: FakeClock, recorded: Recorded, status: int, disconnected: bool, outcome: str
) -> None:
    one = RequestRecord()
    one.status, one.disconnected = status, disconnected
    clock.now_ns += 7
    one.end(_LABELS, with_ttfb=False)
    assert recorded() == {"/x [GET]": 7, f"/x [GET]{outcome}": 7}


def test_a_request_ends_once(clock: FakeClock, recorded: Recorded) -> None:
    one = RequestRecord()
    one.end(_LABELS, with_ttfb=True)
    clock.now_ns += 7
    one.end(_LABELS, with_ttfb=True)
    assert recorded() == {"/x [GET]": 0}


async def test_requests_in_flight_are_counted_from_the_slots_that_an_autopsy_reads() -> None:
    before = in_flight.installed()
    in_flight.install(mmap.mmap(-1, FILE_BYTES))
    try:
        for path in ("/a", "/b", "/c"):
            handle = in_flight.claim("GET", path, 1)
        in_flight.release(handle)
        ((_, value),) = await InFlight().sample()
    finally:
        in_flight.install(before)
    assert value == 2


async def test_without_slots_requests_in_flight_are_those_that_have_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "installed", lambda: None)
    requests = InFlight()
    for _ in range(3):
        requests.begin()
    requests.end()
    ((label, value),) = await requests.sample()
    assert (label, value) == ("requests in flight", 2)


def test_all_series_of_a_request_are_recorded_though_a_worker_quits_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    appended: list[str] = []

    def append(label: str, end_ns: int, duration_ns: int) -> None:
        appended.append(label)
        if len(appended) == 1:
            raise SystemExit

    monkeypatch.setattr(request_record, "append_duration", append)
    interrupted = RequestRecord()
    interrupted.first_byte()
    interrupted.status = 404
    with pytest.raises(SystemExit):
        interrupted.end(_LABELS, with_ttfb=True)
    assert appended == ["/x [GET]", "/x [GET] ttfb", "/x [GET] 4xx"]
