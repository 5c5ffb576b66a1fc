from __future__ import annotations

import asyncio
import gc
import logging
import os
import pstats
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aqltelemetry import Monitor, monitor, record, sync, time_block, time_it
from aqltelemetry.audit.verify import verify
from aqltelemetry.errors import (
    AlreadyRunningError,
    DeliveryError,
    MonitoringDirectoryError,
    NotRunningError,
    OptionError,
    ProfilerError,
    StateError,
)
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import Batch, SegmentId
from aqltelemetry.recording import recorder
from aqltelemetry.recording.segment_pool import SegmentPool
from aqltelemetry.recording.stats import Stats
from aqltelemetry.runtime import assembly, session
from aqltelemetry.runtime.profiler import Profiler
from aqltelemetry.settings import OPTIONS
from aqltelemetry.sinks.file_names import parse
from aqltelemetry.system import clock
from aqltelemetry.system.clock import Anchor
from aqltelemetry.system.extensions import have_extensions
from aqltelemetry.system.threads import WorkerThread
from directories import remove_at_once
from fakes import FakeSampler, MemorySink
from published_names import is_published
from servers import recover

Counts = Callable[..., Counter[str]]
Rows = Callable[..., list[dict[str, str]]]


def _balanced(stats: Stats) -> bool:
    return stats.recorded == stats.published + stats.in_journal + sum(stats.dropped.values())


@pytest.mark.parametrize("documented", [Monitor.start, sync.start])
def test_the_help_of_a_start_describes_each_option(documented: Any) -> None:
    text = " ".join(str(documented.__doc__).split())
    for name, option in OPTIONS.items():
        if name != "directory":
            # Without an event loop of the application, none is sampled by default.
            is_other = documented is sync.start and name == "with_event_loop"
            default = "no" if is_other else option.default_text
            assert f"- `{name}`: {option.help} Default: {default}." in text


def _leftovers(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not is_published(path.name)]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_happens_between_start_and_stop_is_in_the_files(
    directory: Path, counts: Counts, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> Stats:
        await monitor.start(directory)
        async with time_block("db query"):
            await asyncio.sleep(0)
        with time_block("parse"):
            pass
        time_it(label="version()")(len)("")
        record("queue length", 7)
        return await monitor.stop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        stats = runner.run(main())
    assert counts() == {"db query": 1, "parse": 1, "version()": 1}
    assert counts("custom") == {"queue length": 1}
    assert sum(counts("runtime").values()) == stats.published - 4
    assert (stats.in_journal, stats.dropped, stats.queue_depth) == (0, {}, 0)
    assert _leftovers(directory) == []


async def test_all_series_of_the_runtime_are_there(directory: Path, counts: Counts) -> None:
    async with Monitor(directory):
        gc.collect()
    assert set(counts("runtime")) >= {
        *("gc collections", "gc collected", "gc uncollectable", "gc pause", "gc pause gen2"),
        *("user time", "system time", "max rss", "rss", "open fds", "threads"),
        *("context switches voluntary", "context switches involuntary", "tasks"),
        *("telemetry recorded", "telemetry write seconds", "telemetry journal bytes"),
    }


async def test_without_runtime_only_the_application_is_recorded(
    directory: Path, counts: Counts
) -> None:
    async with Monitor(directory, with_runtime=False):
        with time_block("x"):
            pass
    assert (sum(counts("*").values()), counts()["x"]) == (1, 1)


async def test_a_flush_publishes_what_was_recorded_before_it(
    directory: Path, counts: Counts
) -> None:
    async with Monitor(directory, with_runtime=False) as running:
        for number in range(3):
            with time_block("x"):
                pass
            await running.flush()
            assert counts()["x"] == number + 1
            assert running.stats().in_journal == 0


async def test_the_statistics_balance_at_each_moment(directory: Path) -> None:
    """Four threads record without a pause meanwhile."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for _ in range(100):
                with time_block("x"):
                    pass
            stop.wait(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    async with Monitor(
        directory, flush_interval_s=0.05, interval_s=0.05, max_file_age_s=0.05
    ) as running:
        for thread in threads:
            thread.start()
        seen = []
        for _ in range(200):
            seen.append(running.stats())
            await asyncio.sleep(0.002)
        stop.set()
        for thread in threads:
            thread.join()
    assert all(_balanced(each) for each in seen)
    final = running.stats()
    assert _balanced(final)
    assert final.in_journal == 0
    assert [each.recorded for each in seen] == sorted(each.recorded for each in seen)
    assert seen[-1].published > 0


async def test_the_statistics_count_what_is_in_the_files(directory: Path, counts: Counts) -> None:
    async with Monitor(directory) as running:
        for _ in range(10_000):
            with time_block("x"):
                pass
    assert sum(counts("*").values()) == running.stats().published
    assert counts()["x"] == 10_000


async def test_a_second_start_raises_an_error_that_names_the_directory(directory: Path) -> None:
    async with Monitor(directory) as first:
        with pytest.raises(AlreadyRunningError, match=str(directory)):
            await first.start()
        with pytest.raises(AlreadyRunningError) as caught:
            await Monitor(directory / "other").start()
        assert caught.value.directory == str(directory)
        assert first.is_running
    assert not (directory / "other").exists()


async def test_a_stop_of_a_monitor_that_is_not_running_raises(directory: Path) -> None:
    mine = Monitor(directory)
    with pytest.raises(NotRunningError):
        await mine.stop()
    with pytest.raises(NotRunningError):
        await mine.flush()
    await mine.start()
    await mine.stop()
    with pytest.raises(NotRunningError):
        await mine.stop()


async def test_a_monitor_can_be_started_again(directory: Path, counts: Counts) -> None:
    mine = Monitor(directory, with_runtime=False)
    for _ in range(3):
        await mine.start()
        with time_block("x"):
            pass
        assert (await mine.stop()).published == 1
    assert counts()["x"] == 3


async def test_a_monitor_can_be_stopped_inside_its_async_with_block(
    directory: Path, counts: Counts
) -> None:
    """The end of the block raises nothing then."""
    async with Monitor(directory) as mine:
        await mine.stop()
    assert not mine.is_running


@pytest.mark.parametrize("options", [{"interval_s": 0}, {"sinks": 1}, {"intervall_s": 1}], ids=str)
async def test_wrong_options_raise_where_they_are_given_and_nothing_runs(
    directory: Path, options: Any
) -> None:
    with pytest.raises(OptionError):
        Monitor(directory, **options)
    mine = Monitor(directory)
    with pytest.raises(OptionError):
        await mine.start(**options)
    assert not mine.is_running
    assert not directory.exists()
    async with Monitor(directory):
        pass


async def test_a_file_as_the_directory_is_an_error(directory: Path) -> None:
    directory.write_text("mine")
    with pytest.raises(MonitoringDirectoryError, match="must be a directory, not a file"):
        await monitor.start(directory)
    assert directory.read_text() == "mine"
    assert not monitor.is_running


async def test_a_directory_that_is_not_writable_is_an_error_with_the_reason() -> None:
    with pytest.raises(MonitoringDirectoryError, match="can write to") as caught:
        await monitor.start("/proc/monitoring")
    assert caught.value.directory == "/proc/monitoring"


async def test_options_come_from_the_environment(
    directory: Path, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_DIR", str(directory))
    monkeypatch.setenv("AQLTELEMETRY_WITH_RUNTIME", "no")
    async with Monitor() as mine:
        assert mine.directory == str(directory)
    assert counts("runtime") == {}


async def test_user_defined_samplers_record_under_their_prefix(
    directory: Path, counts: Counts
) -> None:
    sampler = FakeSampler(interval_s=0.01)
    async with Monitor(directory, samplers=[sampler]), asyncio.timeout(30):
        while sampler.samples < 3:
            await asyncio.sleep(0.01)
    assert counts("fake") == {"number": sampler.samples}


async def test_exceptions_of_a_sampler_are_counted_and_recorded(
    directory: Path, counts: Counts
) -> None:
    sampler = FakeSampler(interval_s=0.01)
    sampler.failures = [OSError("gone"), OSError("gone")]
    async with (
        Monitor(directory, samplers=[sampler], interval_s=0.01) as mine,
        asyncio.timeout(30),
    ):
        while not sampler.samples:
            await asyncio.sleep(0.01)
    assert mine.stats().sampler_errors == 2
    assert counts("runtime")["telemetry sampler errors"] > 0


async def test_user_defined_sinks_receive_what_the_files_receive(
    directory: Path, counts: Counts
) -> None:
    sink = MemorySink()
    async with Monitor(directory, sinks=[sink]):
        for _ in range(100):
            with time_block("x"):
                pass
    assert sink.closed
    kept = Counter((prefix, label) for prefix, label, _ in sink.rows())
    files = {(p, label): n for p in ("duration", "runtime") for label, n in counts(p).items()}
    assert kept == files


class StuckSink(MemorySink):
    """Never answers."""

    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        await asyncio.get_running_loop().create_future()
        return ()


async def test_a_stop_keeps_its_deadline_and_logs_what_is_unpublished(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Monitor(directory, with_runtime=False, sinks=[StuckSink()], stop_timeout_s=0.05)
    await mine.start()
    for _ in range(5):
        with time_block("x"):
            pass
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        async with asyncio.timeout(30):
            stats = await mine.stop()
    assert stats.in_journal == 5
    assert "stopped after 0.05 s with 5 observations unpublished in the journal" in caplog.text
    await _settle()
    async with Monitor(directory, with_runtime=False) as second, asyncio.timeout(30):
        while second.stats().recovered < 5:
            await asyncio.sleep(0.01)


async def _settle() -> None:
    """Wait until the threads of the recording have ended."""
    async with asyncio.timeout(30):
        while any(each.name.startswith("aqltelemetry") for each in threading.enumerate()):
            await asyncio.sleep(0.01)


async def test_a_sink_that_fails_loses_nothing_once_it_works_again(
    directory: Path, counts: Counts
) -> None:
    sink = MemorySink()
    sink.failures = [OSError("down"), OSError("down")]
    async with Monitor(directory, sinks=[sink], with_runtime=False) as mine:
        with time_block("x"):
            pass
        await mine.flush()
        assert mine.stats().sink_errors == 2
        assert mine.stats().in_journal == 1
    assert len(sink.rows()) == 1
    assert counts()["x"] == 1


async def test_a_directory_that_is_removed_is_created_again(
    directory: Path, tmp_path: Path, counts: Counts
) -> None:
    """Nothing is lost if the journal is elsewhere."""
    async with Monitor(directory, with_runtime=False, journal_dir=tmp_path / "journal") as mine:
        for number in range(3):
            with time_block("x"):
                pass
            remove_at_once(directory)
            await mine.flush()
            assert counts()["x"] == 1, number
    assert mine.stats().published == 3


async def test_a_journal_that_is_removed_loses_nothing(directory: Path, counts: Counts) -> None:
    """A mapping outlives its file, and the directory of the next segments is created again."""
    async with Monitor(directory, with_runtime=False, journal_dir=directory / "journal") as mine:
        for number in range(6):  # more than are made ahead
            with time_block("x"):
                pass
            if number in (0, 3):
                remove_at_once(directory)
            await mine.flush()
            assert counts()["x"] == number % 3 + 1
        stats = mine.stats()
    assert (stats.published, stats.dropped) == (6, {})


async def test_a_journal_that_fills_is_emptied_before_its_limit(
    directory: Path, counts: Counts
) -> None:
    """Files are published early, so that nothing is dropped while the disk works."""
    async with Monitor(
        directory, with_runtime=False, journal_bytes=4 << 20, max_file_age_s=3600
    ) as mine:
        # The pure twin keeps up only with a loop that turns now and then, as README says.
        burst, pause_s = (30_000, None) if have_extensions() else (5_000, 0.005)
        for number in range(1, 300_000 // burst + 1):
            for _ in range(burst):
                with time_block("x"):
                    pass
            if pause_s is not None:
                await asyncio.sleep(pause_s)
            async with asyncio.timeout(30):
                while mine.stats().published < burst * number - 60_000:
                    await asyncio.sleep(0.005)
    assert mine.stats().dropped == {}
    assert counts()["x"] == 300_000


class SteppingClock:
    """Reads both clocks; from `step` on, the wall clock is ahead by an hour."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.readings = 0

    def __call__(self) -> Anchor:
        self.readings += 1
        at_ns, offset_ns = clock.read_anchor()
        return Anchor(at_ns, offset_ns + self.ahead_ns)


async def test_a_step_of_the_wall_clock_is_followed_and_recorded(
    directory: Path,
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    hour_ns = 3600 * 10**9
    stepping = SteppingClock()
    monkeypatch.setattr(session, "read_anchor", stepping)
    monkeypatch.setattr(session, "_HEARTBEAT_S", 0.01)
    async with Monitor(directory, with_runtime=False), asyncio.timeout(30):
        with time_block("before"):
            pass
        before_ns = clock.epoch_ns()
        stepping.ahead_ns = hour_ns
        known = stepping.readings
        while stepping.readings < known + 2:
            await asyncio.sleep(0.01)
        with time_block("after"):
            pass
        after_ns = clock.epoch_ns() + hour_ns
    times = {row["Label"]: int(row["Timepoint"]) for row in rows()}
    assert 0 <= times["after"] - times["before"] - hour_ns < 30 * 10**9
    (step,) = rows("runtime")
    assert step["Label"] == "telemetry clock step"
    assert float(step["Measurement"]) == pytest.approx(3600, abs=1)
    errors = [before_ns - times["before"], after_ns - times["after"]]
    before, after = (f"{error / 1e6:.2f} ms" for error in errors)
    record_property("got", f"a timepoint is {before} off before the step, {after} after it")


async def test_drops_are_recorded_and_logged_once(
    directory: Path, counts: Counts, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    async with Monitor(directory, interval_s=0.01) as mine:
        record("no number", "seven")  # type: ignore[arg-type]
        record("x", 1.0, prefix="../evil")
        async with asyncio.timeout(30):
            while not any("dropped" in text for text in caplog.messages):
                await asyncio.sleep(0.01)
    assert mine.stats().dropped == {"invalid": 2}
    (line,) = (text for text in caplog.messages if "dropped" in text)
    assert line.startswith("an observation was dropped (invalid): custom 'no number': str is no")
    assert line.endswith("later ones are counted only, as `telemetry dropped invalid`")
    last = [row for row in rows("runtime") if row["Label"] == "telemetry dropped invalid"][-1]
    assert float(last["Measurement"]) == 2.0
    assert sum(counts("*").values()) == mine.stats().published


async def test_without_a_journal_memory_is_used_and_the_data_show_it(
    directory: Path, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        async with Monitor(directory, journal_dir="/proc/nothing") as mine:
            with time_block("x"):
                pass
            assert not mine.stats().is_crash_proof
    assert len(caplog.records) == 1
    assert "a killed process loses what is unpublished" in caplog.text
    proof = [row for row in rows("runtime") if row["Label"] == "telemetry crash proof"]
    assert {float(row["Measurement"]) for row in proof} == {0.0}
    assert len(rows()) == 1


async def test_files_do_not_exceed_the_rotation_size(directory: Path, counts: Counts) -> None:
    async with Monitor(directory, max_file_bytes=8192):
        for _ in range(2_000):
            with time_block("x"):
                pass
    sizes = [path.stat().st_size for path in directory.glob("*.csv")]
    assert max(sizes) <= 8192
    assert counts()["x"] == 2_000


async def test_old_files_are_removed_above_keep_bytes(directory: Path) -> None:
    async with Monitor(directory, keep_bytes=20_000, max_file_bytes=4096) as mine:
        for _ in range(10):
            for _ in range(100):
                with time_block("x"):
                    pass
            await mine.flush()
    assert sum(path.stat().st_size for path in directory.glob("*.csv")) <= 20_000


async def test_the_profiler_writes_its_file_at_the_stop(directory: Path) -> None:
    async with Monitor(directory, with_profiler=True):
        _profiled()
    profile = directory / f"profiler.{os.getpid()}.data"
    assert "_profiled" in {name for *_, name in pstats.Stats(str(profile)).stats}  # type: ignore[attr-defined]


async def test_the_profile_is_written_off_the_event_loop(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = []
    monkeypatch.setattr(Profiler, "_publish", lambda *_: writers.append(threading.get_ident()))
    async with Monitor(directory, with_profiler=True):
        pass
    assert len(writers) == 1
    assert writers[0] != threading.get_ident()


async def test_a_profile_that_cannot_be_written_is_logged_and_the_stop_goes_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(Profiler, "_publish", fail)
    async with Monitor(directory, with_profiler=True) as mine:
        with time_block("x"):
            pass
    assert mine.stats().published
    assert "the profile can't be written: odd" in caplog.text


def _profiled() -> None:
    sum(range(10))


async def test_a_second_profiler_is_refused_and_nothing_is_left_running(directory: Path) -> None:
    sys.setprofile(lambda frame, event, arg: None)
    try:
        with pytest.raises(ProfilerError, match="active already"):
            await monitor.start(directory, with_profiler=True, with_runtime=False)
    finally:
        sys.setprofile(None)
    assert not monitor.is_running
    assert not recorder.is_on()
    await _settle()
    assert list(directory.rglob("*")) == []


def test_an_event_loop_that_ended_without_a_stop_does_not_hinder_the_next_start(
    directory: Path, counts: Counts
) -> None:
    mine = Monitor(directory, with_runtime=False)

    async def first() -> None:
        await mine.start()
        with time_block("first"):
            pass

    async def second() -> None:
        await mine.start()
        with time_block("second"):
            pass
        async with asyncio.timeout(30):
            while not mine.stats().recovered:
                await asyncio.sleep(0.01)
        await mine.stop()

    asyncio.run(first())
    asyncio.run(second())
    assert counts() == {"first": 1, "second": 1}


async def test_a_stop_on_another_event_loop_raises(directory: Path) -> None:
    async with Monitor(directory) as mine:

        def elsewhere() -> None:
            with pytest.raises(StateError, match="another event loop"):
                asyncio.run(mine.stop())
            with pytest.raises(StateError, match="another event loop"):
                asyncio.run(mine.flush())

        await asyncio.to_thread(elsewhere)
        assert mine.is_running


@pytest.mark.parametrize("wait_s", [0, 0.0003, 0.001, 0.003, 0.01])
async def test_a_start_that_is_cancelled_leaves_nothing(directory: Path, wait_s: float) -> None:
    """The waits end in different steps of the start."""
    mine = Monitor(directory, with_runtime=False)
    task = asyncio.create_task(mine.start())
    await asyncio.sleep(wait_s)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    if mine.is_running:  # it was done before
        await mine.stop()
    await _settle()
    assert list(directory.rglob("*")) == []
    async with mine:
        assert mine.is_running


@pytest.mark.parametrize(("owner", "name"), [(assembly, "_open_journal"), (SegmentPool, "open")])
async def test_a_start_that_is_cancelled_while_the_journal_is_made_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    gate, reached = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = getattr(owner, name)

    def gated(*arguments: object) -> object:
        made = real(*arguments)
        loop.call_soon_threadsafe(reached.set)
        gate.wait()
        return made

    monkeypatch.setattr(owner, name, gated)
    task = asyncio.create_task(Monitor(directory).start())
    await reached.wait()
    task.cancel()
    loop.call_later(0.01, gate.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    await _settle()
    left = [path for root in all_roots(str(directory)) for path in root.glob("*")]
    assert [*directory.rglob("*"), *left] == []


async def test_a_start_that_is_cancelled_before_the_journals_thread_begins_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reached = threading.Event(), asyncio.Event()

    def held_up(name: str) -> WorkerThread:
        thread = WorkerThread(name)
        thread.post(gate.wait)
        reached.set()
        return thread

    monkeypatch.setattr(session, "WorkerThread", held_up)
    task = asyncio.create_task(Monitor(directory).start())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await _settle()
    left = [path for root in all_roots(str(directory)) for path in root.glob("*")]
    assert [*directory.rglob("*"), *left] == []


async def test_a_published_segment_is_released_from_memory(directory: Path) -> None:
    """Each segment refers to the next one, so a reference to one keeps all that follow."""
    async with Monitor(directory, with_runtime=False) as mine:
        for _ in range(12):
            record("x", 1.0)
            await mine.flush()
        gc.collect()
        segments = [each for each in gc.get_objects() if type(each) is Segment]
        # Other tests of this process may have left some.
        left = [each for each in segments if each.path and directory in each.path.parents]
    assert 0 < len(left) < 6


async def test_the_representation_of_a_monitor_shows_its_state(directory: Path) -> None:
    mine = Monitor(directory)
    assert repr(mine) == "<Monitor not running>"
    assert mine.stats() == Stats()
    async with mine:
        assert repr(mine) == f"<Monitor recording into {str(directory)!r}>"


@pytest.mark.parametrize("how", ["return", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_python_exits_without_a_stop(directory: Path, counts: Counts, how: str) -> None:
    """The next start publishes what was recorded."""
    program = f"""
import asyncio
from aqltelemetry import monitor, time_block
async def main():
    await monitor.start({str(directory)!r}, with_runtime=False)
    with time_block("unstopped"):
        pass
    {how}
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)

    async def read() -> None:
        async with Monitor(directory, with_runtime=False) as mine, asyncio.timeout(30):
            while not mine.stats().recovered:
                await asyncio.sleep(0.01)

    asyncio.run(read())
    assert counts() == {"unstopped": 1}


async def test_a_flush_restarts_delivery_after_all_tasks_were_cancelled(
    directory: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Monitor(directory, with_runtime=False)
    await mine.start()
    record("x", 1)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    await mine.flush()
    assert counts("custom") == {"x": 1}
    assert "delivery to the sinks was cancelled" in caplog.text
    record("x", 2)
    stats = await mine.stop()
    assert (stats.published, counts("custom")) == (2, {"x": 2})


async def test_a_flush_raises_when_delivery_is_cancelled_meanwhile(directory: Path) -> None:
    class HangingSink(MemorySink):
        async def write(self, batch: Batch) -> Sequence[SegmentId]:
            waiting.set()
            await asyncio.Event().wait()
            return []

    waiting = asyncio.Event()
    mine = Monitor(directory, with_runtime=False, sinks=[HangingSink()], stop_timeout_s=0.1)
    await mine.start()
    record("x", 1)
    flushing = asyncio.ensure_future(mine.flush())
    await waiting.wait()
    assert mine._session is not None
    mine._session._delivering.cancel()
    with pytest.raises(DeliveryError, match="cancelled"):
        await flushing
    stats = await mine.stop()
    assert _balanced(stats)
    assert stats.in_journal == 1


async def test_a_profile_is_written_off_the_event_loop(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[int] = []
    write = Profiler.write

    def note(profiler: Profiler) -> None:
        writers.append(threading.get_ident())
        write(profiler)

    monkeypatch.setattr(Profiler, "write", note)
    async with Monitor(directory, with_runtime=False, with_profiler=True):
        pass
    assert len(writers) == 1
    assert writers[0] != threading.get_ident()
    assert list(directory.glob("profiler.*"))


async def test_a_profile_is_written_even_if_no_thread_can_be_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError(f"can't start new thread at interpreter shutdown: {name}")

    async with Monitor(directory, with_runtime=False, with_profiler=True):
        monkeypatch.setattr("aqltelemetry.runtime.monitor.WorkerThread", refuse)
    assert list(directory.glob("profiler.*"))


async def test_a_slow_write_of_a_profile_does_not_delay_a_stop_beyond_its_deadline(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(Profiler, "write", lambda _: gate.wait(60))
    mine = Monitor(directory, with_runtime=False, with_profiler=True, stop_timeout_s=0.2)
    await mine.start()
    await mine.stop()
    assert "the profile can't be written" in caplog.text
    gate.set()
    if "yappi" in sys.modules:  # which the profile would have cleared, had it been written
        sys.modules["yappi"].clear_stats()


_CUMULATIVE = """
import asyncio, os, signal, sys
from aqltelemetry import Monitor, record

class CumulativeSink:
    "Follows the protocol: returns what it keeps, of this call or earlier ones."
    def __init__(self):
        self.kept = []
    async def write(self, batch):
        self.kept.append(batch.segment)
        return self.kept
    async def flush(self):
        return self.kept
    async def close(self): ...

async def main():
    mine = Monitor(sys.argv[1], with_runtime=False, sinks=[CumulativeSink()], flush_interval_s=60)
    await mine.start()
    for segment in range(6):
        for number in range(10):
            record("x", 10 * segment + number)
        await mine._session._loop.run_in_executor(
            mine._session.journal_thread, mine._session._pool.seal
        )
        while mine._session._delivery.queue.items.qsize():
            await asyncio.sleep(0)
        await mine._session._loop.run_in_executor(mine._session._parts.sink_thread, int)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_sink_that_names_segments_repeatedly_loses_nothing_by_a_kill(
    directory: Path, rows: Rows
) -> None:
    done = subprocess.run([sys.executable, "-c", _CUMULATIVE, str(directory)], check=False)
    assert done.returncode == -signal.SIGKILL
    await recover(directory)
    found = Counter(round(float(row["Measurement"])) for row in rows("custom"))
    assert found == Counter(range(60))
    (verdict,) = verify(directory, all_roots(str(directory)))
    assert (verdict.rows, verdict.problems, verdict.is_accounted_for) == (60, [], True)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_process_that_only_samples_makes_larger_files(
    directory: Path, is_busy: bool
) -> None:
    """Its segments, which the files' names count, are sealed less often."""
    async with Monitor(directory, interval_s=0.01, flush_interval_s=0.01) as mine:
        while not list(directory.glob("runtime.*.csv")):  # the first comes as soon as ever
            await asyncio.sleep(0.01)
            await mine.flush()
        await mine.flush()  # segments that were due before the first file have been sealed
        published = set(directory.glob("runtime.*.csv"))
        until = mine.stats().recorded + 1_000
        while mine.stats().recorded < until:
            await asyncio.sleep(0.01)
            if is_busy:
                with time_block("x"):
                    pass
        await mine.flush()
        (path,) = set(directory.glob("runtime.*.csv")) - published
    name = parse(path.name)
    assert name is not None
    assert (name.last - name.first > 5) == is_busy


def test_without_asyncio_the_error_names_the_synchronous_interface(
    directory: Path,
) -> None:
    starting = Monitor(directory).start()
    with pytest.raises(StateError, match=r"use aqltelemetry\.sync"):
        starting.send(None)
    assert not recorder.is_on()
