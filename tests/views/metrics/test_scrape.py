from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.commands.cli import main
from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system.clock import epoch_ns
from aqltelemetry.views.live.new_rows import NewRows
from aqltelemetry.views.metrics.scrape import Scrapes
from aqltelemetry.views.metrics.totals import MAX_WORKER_SERIES
from published import Row, publish

_REQUESTS = "aqltelemetry_request_duration_seconds_count"
_ERRORS = "aqltelemetry_request_errors_total"
Samples = dict[tuple[str, ...], float]
Scrape = Callable[[], Samples]


def samples(text: str) -> Samples:
    """Return the samples of a response by their name and the values of their labels, but `le`."""
    return {
        (each.name, *(value for name, value in sorted(each.labels.items()) if name != "le")): (
            each.value
        )
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@pytest.fixture
def scrapes(directory: Path) -> Iterator[Scrapes]:
    directory.mkdir()
    found = Scrapes([str(directory)])
    found.scrape("").result(60)
    yield found
    found.close()


@pytest.fixture
def scrape(scrapes: Scrapes) -> Scrape:
    return lambda: samples(scrapes.scrape("").result(60).body.decode())


async def _requests(number: int, label: str = "/a [GET]") -> None:
    for _ in range(number):
        async with time_block(label):
            pass


async def test_a_scrape_has_what_is_not_published_yet(directory: Path, scrape: Scrape) -> None:
    async with Monitor(directory):
        await _requests(7)
        await _requests(2, "/a [GET] 5xx")
        record("length", 3)
        found = scrape()
        assert found[_REQUESTS, "GET", "/a"] == 7
        assert found[_ERRORS, "GET", "/a", "5xx"] == 2
        assert found[("aqltelemetry_workers",)] == 1
        (value,) = (found[key] for key in found if key[0] == "aqltelemetry_worker_value")
        assert value == 3
        await _requests(1)
        assert scrape()[_REQUESTS, "GET", "/a"] == 8


async def test_totals_grow_over_restarts_and_over_the_removal_of_files(
    directory: Path, scrape: Scrape
) -> None:
    for restart in range(1, 4):
        async with Monitor(directory):
            await _requests(10)
            await _requests(1, "/a [GET] 4xx")
            assert scrape()[_REQUESTS, "GET", "/a"] == 10 * restart
        found = scrape()
        assert found[_REQUESTS, "GET", "/a"] == 10 * restart
        assert found[_ERRORS, "GET", "/a", "4xx"] == restart
        assert found["aqltelemetry_worker_starts_total",] == restart
        assert found["aqltelemetry_worker_ends_total", "stopped"] == restart
        assert found["aqltelemetry_workers",] == 0
        for path in directory.glob("*.csv"):
            path.unlink()
    assert scrape()[_REQUESTS, "GET", "/a"] == 30
    assert scrape()["aqltelemetry_cpu_seconds_total", "user"] > 0


async def test_what_was_recorded_before_is_not_counted(directory: Path) -> None:
    async with Monitor(directory) as monitor:
        await _requests(5)
        await monitor.flush()
        await _requests(5)
        scrapes = Scrapes([str(directory)])
        try:
            found = samples(scrapes.scrape("").result(60).body.decode())
            assert (_REQUESTS, "GET", "/a") not in found
            assert found["aqltelemetry_worker_starts_total",] == 0
            await _requests(2)
            found = samples(scrapes.scrape("").result(60).body.decode())
            assert found[_REQUESTS, "GET", "/a"] == 2
        finally:
            scrapes.close()


async def test_files_that_are_combined_into_an_archive_count_once(
    directory: Path, scrape: Scrape
) -> None:
    async with Monitor(directory):
        await _requests(10)
    async with Monitor(directory):
        await _requests(10)
    before = scrape()
    assert before[_REQUESTS, "GET", "/a"] == 20
    done = CliRunner().invoke(main, ["compact", str(directory), "--older-than", "0s"])
    assert done.exit_code == 0, done.output
    assert list(directory.glob("*.csv")) == []
    after = scrape()
    assert after[_REQUESTS, "GET", "/a"] == 20
    assert (
        after["aqltelemetry_exporter_observations_total",]
        == (before["aqltelemetry_exporter_observations_total",])
    )


def test_a_recording_whose_older_files_are_not_read_did_not_start_now(directory: Path) -> None:
    directory.mkdir()
    now_ns = 1_700_000_000_000_000_000
    workers = (1, "a" * 16), (2, "b" * 16)
    publish(directory, [Row(now_ns - 10**9, 0.1, "/a [GET]", workers[0])])
    scrapes = Scrapes([str(directory)], now_ns=lambda: now_ns)
    try:
        scrapes.scrape("").result(60)
        publish(directory, [Row(now_ns + 1, 0.1, "/a [GET]", worker) for worker in workers])
        found = samples(scrapes.scrape("").result(60).body.decode())
        assert found[_REQUESTS, "GET", "/a"] == 2
        assert found["aqltelemetry_worker_starts_total",] == 1
    finally:
        scrapes.close()


def test_a_scrape_ends_after_its_budget_and_the_next_one_continues(directory: Path) -> None:
    directory.mkdir()
    ticks = iter(range(1_000_000))
    now_ns = 1_700_000_000_000_000_000
    scrapes = Scrapes(
        [str(directory)], budget_s=3e-9, clock_ns=lambda: next(ticks), now_ns=lambda: now_ns
    )
    try:
        assert (
            samples(scrapes.scrape("").result(60).body.decode())[("aqltelemetry_exporter_behind",)]
            == 0
        )
        for writer in range(10):
            publish(directory, [Row(now_ns + 1, 0.1, "/a [GET]", (writer, f"{writer:016x}"))])
        counts = []
        for _ in range(10):
            found = samples(scrapes.scrape("").result(60).body.decode())
            counts.append(found[_REQUESTS, "GET", "/a"])
            if not found[("aqltelemetry_exporter_behind",)]:
                break
        assert counts == sorted(counts)
        assert len(counts) > 2
        assert counts[-1] == 10
    finally:
        scrapes.close()


def test_a_directory_that_is_gone_fails_the_scrape_only(directory: Path, scrapes: Scrapes) -> None:
    directory.rmdir()
    with pytest.raises(OSError, match="No such file"):
        scrapes.scrape("").result(60)
    directory.mkdir()
    assert b"aqltelemetry_workers 0.0" in scrapes.scrape("").result(60).body


def test_the_format_is_the_one_that_was_asked_for(scrapes: Scrapes) -> None:
    plain = scrapes.scrape("").result(60)
    assert plain.content_type.startswith("text/plain")
    accept = "application/openmetrics-text;version=1.0.0"
    made = scrapes.scrape(accept).result(60)
    assert made.content_type.startswith("application/openmetrics-text")
    assert made.body.endswith(b"# EOF\n")


async def test_each_bucket_has_the_observations_up_to_its_bound(
    directory: Path, scrapes: Scrapes
) -> None:
    now_ns = 9_000_000_000_000_000_000
    values = [0.0005, 0.001, 0.02, 99.0]
    publish(directory, [Row(now_ns, value, "job", (1, "a" * 16)) for value in values])
    text = scrapes.scrape("").result(60).body.decode()
    (family,) = (
        each
        for each in text_string_to_metric_families(text)
        if each.name == "aqltelemetry_block_duration_seconds"
    )
    counts = {
        float(each.labels["le"]): each.value for each in family.samples if "le" in each.labels
    }
    assert counts == {bound: sum(value <= bound for value in values) for bound in DEFAULT_BOUNDS}


def test_a_series_of_stalls_begins_with_0_so_that_a_rate_has_the_first_one(
    directory: Path, scrape: Scrape
) -> None:
    worker = (1, "a" * 16)
    count = "aqltelemetry_worker_stall_seconds_count", "no CPU", "1", worker[1]
    now_ns = epoch_ns()
    publish(directory, [Row(now_ns + 1, 0.2, "no CPU", worker)], prefix="stall")
    assert scrape()[count] == 0
    assert scrape()[count] == 1
    later = [Row(now_ns + at, 0.3, "no CPU", worker) for at in (2_000_000, 3_000_000)]
    publish(directory, later, prefix="stall")
    assert scrape()[count] == 3
    assert scrape()["aqltelemetry_worker_stall_seconds_sum", *count[1:]] == pytest.approx(0.8)


def test_what_is_shown_of_a_worker_has_its_requests(directory: Path, scrape: Scrape) -> None:
    workers = (1, "a" * 16), (2, "b" * 16)
    now_ns = epoch_ns()
    publish(directory, [Row(now_ns + 1, 0.2, "/a [GET]", worker) for worker in workers[:1]])
    publish(directory, [Row(now_ns + 1, 1.0, "rss", worker) for worker in workers], "runtime")
    found = scrape()
    assert found["aqltelemetry_worker_requests_total", "1", "a" * 16] == 1
    assert ("aqltelemetry_worker_requests_total", "2", "b" * 16) not in found


def test_values_of_any_prefix_are_shown_with_their_number_and_sum(
    directory: Path, scrape: Scrape
) -> None:
    worker = (1, "a" * 16)
    now_ns = epoch_ns()
    values = [2.0, math.nan, math.inf, -3.0, 4.5]
    rows = [Row(now_ns + at, value, "é, \n", worker) for at, value in enumerate(values)]
    publish(directory, rows, prefix="queue")
    publish(directory, [Row(now_ns, 7.0, "thread count", worker)], prefix="runtime")
    found = scrape()
    key = ("é, \n", "1", "queue", worker[1])
    assert found["aqltelemetry_worker_value", *key] == 4.5
    assert found["aqltelemetry_worker_values_count", *key] == 3
    assert found["aqltelemetry_worker_values_sum", *key] == 3.5
    assert found["aqltelemetry_worker_value", "thread count", "1", "runtime", worker[1]] == 7


def test_series_beyond_a_number_are_left_out_and_counted(directory: Path, scrape: Scrape) -> None:
    worker = (1, "a" * 16)
    now_ns = epoch_ns()
    more = 5
    labels = [f"label {number}" for number in range(MAX_WORKER_SERIES + more)]
    rows = [Row(now_ns + at, 1.0, label, worker) for at in (1, 2) for label in labels]
    publish(directory, rows, prefix="queue")
    found = scrape()
    shown = [key for key in found if key[0] == "aqltelemetry_worker_value"]
    assert len(shown) == MAX_WORKER_SERIES
    assert found["aqltelemetry_exporter_left_out_observations_total",] == 2 * more


async def test_files_that_retention_removes_before_a_late_scrape_are_counted(
    directory: Path, scrape: Scrape
) -> None:
    missed = ("aqltelemetry_exporter_missed_files_total",)
    sweep = Retention(str(directory), keep_bytes=0, keep_s=1e6).sweep
    for number in (1, 2):
        async with Monitor(directory, with_runtime=False):
            await _requests(5)
        before = scrape()
        assert before[_REQUESTS, "GET", "/a"] == 5 * number
        sweep()  # of what was read
        assert scrape()[missed] == number - 1
        async with Monitor(directory, with_runtime=False) as monitor:
            await _requests(3, "/b [GET]")
            await monitor.flush()
        sweep()  # of what was not
        after = scrape()
        assert after[missed] == number
        assert all(after[key] >= before[key] for key in before if key[0].endswith("_count"))


async def test_what_was_removed_before_the_exporter_started_was_not_missed(directory: Path) -> None:
    async with Monitor(directory, with_runtime=False):
        await _requests(5)
    Retention(str(directory), keep_bytes=0, keep_s=1e6).sweep()
    scrapes = Scrapes([str(directory)])
    try:
        for _ in range(2):
            found = samples(scrapes.scrape("").result(60).body.decode())
            assert found["aqltelemetry_exporter_missed_files_total",] == 0
    finally:
        scrapes.close()


def test_a_file_that_is_removed_between_its_listing_and_its_reading_was_missed(
    directory: Path, scrapes: Scrapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(directory, [Row(epoch_ns() + 1, 0.1, "/a [GET]", (1, "a" * 16))])
    read = NewRows._read_file

    def remove_first(*given: Any) -> Any:
        for path in directory.glob("duration.*"):
            path.unlink()
        return read(*given)

    monkeypatch.setattr(NewRows, "_read_file", remove_first)
    found = samples(scrapes.scrape("").result(60).body.decode())
    assert found["aqltelemetry_exporter_missed_files_total",] == 1
