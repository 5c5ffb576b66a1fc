"""What each rule finds, and what looks similar and is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import DURATION, RUNTIME
from aqltelemetry.views.findings.find import find
from aqltelemetry.views.findings.finding import Finding
from fakes import EPOCH_NS
from recordings import Floats, Recording, Route, Worker

_SECONDS = 120.0
_ORDERS = Route("/orders [GET]", per_s=40, median_s=0.02, sigma=0.3)


@pytest.fixture
def recording() -> Recording:
    return Recording(_SECONDS)


@pytest.fixture
def worker(recording: Recording) -> Worker:
    """A worker that serves orders, and whose event loop is on time."""
    worker = recording.add_worker()
    worker.serve(_ORDERS)
    worker.sample("user time", lambda at_s: at_s)
    due_s = np.arange(0.1, _SECONDS, 0.1)
    worker.samples["event loop lag"] = due_s, np.zeros(len(due_s))
    return worker


@pytest.fixture
def found(recording: Recording, tmp_path: Path) -> Callable[[], list[Finding]]:
    return lambda: find(TelemetryDB(recording.write(tmp_path)), zone=UTC)


def recorded_ns(at_s: float) -> int:
    """Return a time of a recording in nanoseconds since the epoch."""
    return EPOCH_NS + round(at_s * 1e9)


def _hold(worker: Worker, label: str = "", sample: str = "", length_s: float = 0.3) -> None:
    for at_s in np.arange(10.03, 110, 5):
        worker.hold(float(at_s), length_s, label, sample)


def test_the_innermost_block_that_holds_the_loop_is_named(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    _hold(worker, "render export")
    (times, lengths) = worker.columns()[DURATION, "render export"]
    worker.observe(DURATION, "/exports [POST]", times + 0.001, lengths + 0.002)
    (finding,) = found()
    assert finding.rule == "slowest requests"
    assert "of /orders [GET] in worker 4000 overlap `render export`, which held" in finding.text
    assert finding.figures["longest_s"] == pytest.approx(0.3)
    assert finding.figures["events"] >= 15


def test_a_lag_without_a_block_is_found_too(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    _hold(worker)
    (finding,) = found()
    assert "overlap times in which its event loop was held, for up to 2" in finding.text
    assert finding.text.endswith("; the option `with_stalls` records the cause and the line.")


def test_pauses_of_the_collector_come_before_the_lags_that_they_cause(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    _hold(worker, sample="gc pause")
    (finding,) = found()
    assert "overlap pauses of the garbage collector of up to 300 ms" in finding.text


def test_the_line_that_blocks_the_loop_is_found_and_explains_the_slowest_requests(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    for at_s in np.arange(10.03, 110, 5):
        worker.block(float(at_s), 0.3, "native code holding the GIL", 12, "render export")
    blocked, slowest = found()
    place = "native code holding the GIL at orders/app.py:12 in `view`"
    assert blocked.rule == "event loop blocked"
    assert blocked.text.startswith(
        "The event loop of worker 4000 was blocked 20 times from 22:13:30 to 22:15:05, for up to "
        f"300 ms (6 s in all): {place}; "
    )
    assert blocked.text.endswith(" requests of /orders [GET] were in progress.")
    assert (blocked.label, blocked.pid) == ("/orders [GET]", 4000)
    assert slowest.rule == "slowest requests"
    assert f"stalls of its event loop of up to 300 ms: {place}, within `render export`" in (
        slowest.text
    )


def test_stalls_at_several_lines_explain_the_slowest_requests_together(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    for number, at_s in enumerate(np.arange(10.03, 110, 5)):
        worker.block(float(at_s), 0.3, "blocking wait", number)
    (finding,) = found()
    assert "300 ms: blocking wait at orders/app.py:" in finding.text
    assert finding.text.endswith(" in `view`, and 19 other places.")


def test_the_line_is_named_where_the_collector_blocks_the_loop(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    for at_s in np.arange(10.03, 110, 5):
        worker.block(float(at_s), 0.3, "garbage collection", 12)
        worker.observe(RUNTIME, "gc pause", [at_s + 0.3], [0.3])
    _, slowest = found()
    assert "pauses of the garbage collector of up to 300 ms, by garbage collection at orders" in (
        slowest.text
    )


def test_one_stall_is_found_if_it_is_long(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    worker.block(50, 0.8, "blocking wait", 3)
    worker.block(70, 1.5, "blocking I/O", 4)
    (finding,) = found()
    assert finding.text.startswith("The event loop of worker 4000 was blocked for 1.50 s at 22:1")
    assert (finding.begin_ns, finding.end_ns) == (recorded_ns(70), recorded_ns(71.5))


def test_few_short_stalls_in_a_long_time_are_none(
    recording: Recording, worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    recording.add_worker(0, 4000).sample("user time", lambda at_s: at_s)
    for at_s in (30, 50, 70):
        worker.block(at_s, 0.06, "no CPU", 0)
    assert found() == []


def test_a_cause_of_one_event_is_none(worker: Worker, found: Callable[[], list[Finding]]) -> None:
    worker.hold(50, 1.5, "render export")
    assert found() == []


def test_a_processor_that_is_always_full_explains_nothing(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    worker.sample("cpu percent", lambda at_s: np.full(len(at_s), 99.0))
    (requests,) = worker.requests
    requests.seconds[::50] *= 8
    assert found() == []


def test_a_burst_of_errors_is_not_also_found_as_errors(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    (requests,) = worker.requests
    ends = requests.end_s[(requests.end_s > 50) & (requests.end_s < 70)]
    worker.observe(DURATION, "/orders [GET] 5xx", ends, np.full(len(ends), 0.02))
    (finding,) = found()
    assert finding.rule == "error burst"
    assert finding.figures["share"] == 1
    assert finding.text.startswith("From 22:14:10 to 22:14:29, 100 % of /orders [GET] ended with")


def test_more_errors_than_requests_are_all_of_them(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    ends = np.linspace(1, _SECONDS - 1, 900)
    worker.observe(DURATION, "/few [GET]", ends[::300], np.full(3, 0.02))
    worker.observe(DURATION, "/few [GET] 5xx", ends, np.full(len(ends), 0.02))
    (finding,) = found()
    assert (finding.rule, finding.figures["share"]) == ("errors", 1)
    assert finding.text == "100 % of /few [GET] ended with 5xx: 900 of 900 requests."


def test_a_route_that_was_slow_at_first_did_not_become_slower(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    (requests,) = worker.requests
    requests.scale(3, 0, 50)
    assert found() == []


def test_a_change_is_found_to_the_second(
    recording: Recording, worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    (requests,) = worker.requests
    requests.scale(2, 71.3, 200)
    (finding,) = found()
    assert finding.rule == "became slower"
    assert abs(finding.begin_ns - recording.ns(71.3)) < 0.5e9
    assert finding.figures["factor"] == pytest.approx(2, rel=0.1)


def _grow(worker: Worker, label: str, values: Callable[[Floats], Floats]) -> None:
    worker.sample(label, lambda at_s: values(at_s / _SECONDS))


@pytest.mark.parametrize(
    "values",
    [
        lambda share: (100 << 20) * (2 - np.exp(-4 * share)),  # a cache that fills
        lambda share: (100 << 20) * (1 + share * 6 % 1),  # collected now and then
        lambda share: (100 << 20) * (1 + 0.08 * share),
        lambda share: (100 << 20) * (1 + np.where(share > 0.5, 1, 0)),
        lambda share: (20 << 20) * (1 + 0.5 * share),
    ],
)
def test_memory_that_grows_otherwise_or_little_is_no_finding(
    worker: Worker, found: Callable[[], list[Finding]], values: Callable[[Floats], Floats]
) -> None:
    _grow(worker, "rss", values)
    assert found() == []


def test_memory_that_grows_is_found_with_its_slope(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    _grow(worker, "rss", lambda share: (100 << 20) * (1 + share))
    worker.observe(RUNTIME, "rss", [50.5, 60.5], [np.nan, np.inf])
    (finding,) = found()
    assert finding.rule == "memory grows"
    assert finding.figures["slope_bytes_per_s"] == pytest.approx((100 << 20) / _SECONDS, rel=1e-3)
    assert finding.figures["double_s"] == pytest.approx(2 * _SECONDS, rel=0.05)
    assert "50.0 MiB a minute (R² 1.00); it doubles in 4.0 min." in finding.text


def test_open_files_that_only_grow_are_found(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    _grow(worker, "open fds", lambda share: np.floor(10 + 200 * share))
    (finding,) = found()
    assert finding.text.startswith("Open files of worker 4000 only grow: 28 at 22:13:31, ")


def test_blocks_are_not_named_if_their_requests_have_a_long_tail(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    (requests,) = worker.requests
    requests.seconds[::40] *= 80
    worker.observe(DURATION, "payment api", requests.end_s, requests.seconds * 0.9)
    assert [each.label for each in found() if each.rule == "long tail"] == ["/orders [GET]"]


def test_the_time_in_which_the_last_request_ends_is_no_drop(
    worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    worker.observe(DURATION, "/orders [GET]", [_SECONDS + 60], [61.0])
    assert found() == []


def test_a_time_without_a_worker_is_no_drop(
    recording: Recording, worker: Worker, found: Callable[[], list[Finding]]
) -> None:
    worker.die(40)
    worker.state = "stopped"
    later = recording.add_worker(80)
    later.serve(_ORDERS)
    later.sample("user time", lambda at_s: at_s)
    assert found() == []
