from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.sinks.file_names import FileName, parse, temporary
from aqltelemetry.sinks.removals import RemovedFiles, is_removals, load, read_removals
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import utc
from fakes import EPOCH_NS, FakeClock

_S = 1_000_000_000


def _publish(directory: Path, second: int, size: int = 100) -> Path:
    at_ns = EPOCH_NS + second * _S
    name = FileName("duration", at_ns, at_ns + _S, 1, "0" * 16, 1, 1, 0)
    path = directory / str(name)
    path.write_bytes(b"x" * size)
    return path


def _retention(directory: Path, keep_bytes: int = 10**9, keep_s: float = 10**6) -> Retention:
    return Retention(
        str(directory), keep_bytes, keep_s, FakeClock(EPOCH_NS + 1_000 * _S), lambda job: job()
    )


def _at(path: Path | str) -> int:
    """Return the second at which a file was published."""
    name = parse(Path(path).name)
    assert name is not None
    return (name.from_ns - EPOCH_NS) // _S


def test_the_oldest_files_above_the_total_size_are_removed(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in (3, 1, 2, 4)]
    retention = _retention(tmp_path, keep_bytes=250)
    retention.sweep()
    assert [path.exists() for path in files] == [True, False, False, True]
    assert retention.removed == 2


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_counted_and_removed(tmp_path: Path, suffix: str) -> None:
    files = []
    for second in (3, 1, 2, 4):
        path = _publish(tmp_path, second)
        files.append(path.rename(path.with_name(path.name + suffix)))
    retention = _retention(tmp_path, keep_bytes=250)
    retention.sweep()
    assert [path.exists() for path in files] == [True, False, False, True]
    assert retention.removed == 2


def test_files_above_the_age_are_removed(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in (0, 500, 998)]
    _retention(tmp_path, keep_s=500).sweep()
    assert [path.exists() for path in files] == [False, True, True]


def test_files_within_the_limits_stay(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in range(4)]
    _retention(tmp_path, keep_bytes=400).sweep()
    assert all(path.exists() for path in files)


def test_foreign_files_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    foreign = [tmp_path / name for name in ("notes.csv", "duration.6b1f.csv", "big.bin", "x.tmp")]
    for path in foreign:
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (1, 1))
    ours = _publish(tmp_path, 1)
    _retention(tmp_path, keep_bytes=100).sweep()
    assert all(path.exists() for path in (*foreign, ours))


def test_old_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    old, new = (tmp_path / temporary("duration", "0" * 16, number) for number in (1, 2))
    now_s = EPOCH_NS // _S + 1_000
    for path, age_s in ((old, 601), (new, 599)):
        path.touch()
        os.utime(path, (now_s - age_s, now_s - age_s))
    _retention(tmp_path).sweep()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_a_reader_removes_meanwhile_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [_publish(tmp_path, second) for second in range(3)]
    unlink = os.unlink

    def race(path: str) -> None:
        unlink(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", race)
    retention = _retention(tmp_path, keep_bytes=100)
    retention.sweep()
    assert [path.exists() for path in files] == [False, False, True]
    assert (retention.removed, retention.errors) == (0, 0)
    assert _removals(tmp_path) == {}


def test_directories_are_swept_once_a_minute_or_when_full(tmp_path: Path) -> None:
    clock = FakeClock(EPOCH_NS)
    retention = Retention(str(tmp_path), 250, 10**6, clock, lambda job: job())
    _publish(tmp_path, 1)
    retention.added(100)  # the first one looks
    old = _publish(tmp_path, 0)
    retention.added(100)
    _publish(tmp_path, 2)
    assert old.exists()
    retention.added(100)  # by what is known, there are 300 now
    assert not old.exists()


def test_sweeps_continue_after_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = FakeClock(EPOCH_NS)
    retention = Retention(str(tmp_path), 10**6, 10, clock, lambda job: job())
    retention.added(0)
    clock.now_ns -= 3600 * _S
    stale = _publish(tmp_path, -7200)
    retention.added(0)
    assert not stale.exists()


def _removals(directory: Path) -> RemovedFiles:
    """Return the content of the only account of removals; empty if there is none."""
    paths = [
        path
        for path in directory.iterdir()
        if (name := parse(path.name)) is not None and is_removals(name)
    ]
    assert len(paths) <= 1
    return read_removals(load(str(paths[0]))) if paths else {}


@pytest.fixture
def undeletable(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the removal of files that were published at some seconds fail."""

    def make(*seconds: int, number: int = errno.EPERM) -> None:
        unlink = os.unlink

        def fail(path: Path | str) -> None:
            if parse(Path(path).name) and _at(path) in seconds:
                raise OSError(number, os.strerror(number), str(path))
            unlink(path)

        monkeypatch.setattr(syscalls, "unlink", fail)

    return make


@pytest.mark.parametrize("stuck", [(0,), (1,), (2,), (0, 2), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EIO, errno.EROFS])
def test_a_file_that_can_not_be_removed_does_not_keep_others(
    tmp_path: Path, undeletable: Callable[..., None], stuck: tuple[int, ...], number: int
) -> None:
    files = [_publish(tmp_path, second) for second in (0, 1, 2, 998)]
    undeletable(*stuck, number=number)
    retention = _retention(tmp_path, keep_s=500)
    retention.sweep()
    assert {_at(path) for path in files if path.exists()} == {*stuck, 998}
    assert (retention.removed, retention.errors) == (3 - len(stuck), len(stuck))


def test_files_that_can_not_be_removed_do_not_count_against_younger_files(
    tmp_path: Path, undeletable: Callable[..., None]
) -> None:
    """Another user's files may permanently exceed the limit."""
    stuck = _publish(tmp_path, 1, 10_000)
    mine = [_publish(tmp_path, second, 1_000) for second in (2, 3, 4)]
    undeletable(1)
    retention = _retention(tmp_path, keep_bytes=2_500)
    for _ in range(3):
        retention.sweep()
    assert [path.exists() for path in (stuck, *mine)] == [True, False, True, True]


def test_failures_to_remove_are_counted_and_logged_once(
    tmp_path: Path, undeletable: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(5):
        _publish(tmp_path, second)
    undeletable(0, 1, 2)
    retention = _retention(tmp_path, keep_s=500)
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        for _ in range(3):
            retention.sweep()
    assert (retention.errors, retention.removed, len(caplog.records)) == (3, 2, 1)
    assert "remove old files" in caplog.text


def test_a_temporary_file_that_can_not_be_removed_does_not_stop_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / temporary("duration", "0" * 16, 1)
    stale.touch()
    os.utime(stale, (1, 1))
    old = _publish(tmp_path, 1)
    unlink = os.unlink

    def fail(path: Path | str) -> None:
        if str(path).endswith(".tmp"):
            raise PermissionError(errno.EPERM, "sticky")
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        retention = _retention(tmp_path, keep_s=5)
        retention.added(100)
    assert not old.exists()
    assert retention.errors >= 1


@pytest.mark.parametrize("exc", [OSError(errno.EIO, "bad block"), ValueError("what?")])
def test_an_unreadable_directory_is_counted_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exc: Exception
) -> None:
    def fail(path: str) -> None:
        raise exc

    monkeypatch.setattr(syscalls, "scan_directory", fail)
    retention = _retention(tmp_path)
    retention.added(100)
    assert retention.errors == 1
    assert retention.sweeping is not None
    assert retention.sweeping.done()


def test_a_sweep_that_can_not_start_a_thread_is_counted_and_logged(tmp_path: Path) -> None:
    def refuse(job: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    retention = Retention(str(tmp_path), 100, 10, FakeClock(EPOCH_NS), refuse)
    retention.added(1_000)
    assert retention.errors == 1


def test_at_interpreter_exit_a_failed_thread_start_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From Python 3.12 on, no thread can be started then."""

    def refuse(job: Callable[[], None]) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    retention = Retention(str(tmp_path), 100, 10, FakeClock(EPOCH_NS), refuse)
    retention.added(1_000)
    assert (retention.errors, caplog.text) == (0, "")


def test_only_one_sweep_runs_at_a_time(tmp_path: Path) -> None:
    jobs: list[Callable[[], None]] = []
    retention = Retention(str(tmp_path), 100, 10**6, FakeClock(EPOCH_NS), jobs.append)
    for _ in range(3):
        retention.added(1_000)
    assert len(jobs) == 1
    jobs[0]()
    retention.added(1_000)
    assert len(jobs) == 2


def _named(writer: str, first: int, last: int, prefix: str, second: int) -> FileName:
    at_ns = EPOCH_NS + second * _S
    return FileName(prefix, at_ns, at_ns + _S, 1, writer, first, last, 0)


def _write_run(directory: Path, writer: str, first: int, last: int, second: int) -> None:
    (directory / str(_named(writer, first, last, "duration", second))).write_bytes(b"x" * 100)
    account = f"Timepoint,Measurement,Label,PID\n1,{last},accepted,1\n"
    (directory / str(_named(writer, first, last, "account", second + 1))).write_text(account)


_ONE, _TWO = "1" * 16, "2" * 16


def test_removed_files_are_in_the_account_by_writer_and_prefix(tmp_path: Path) -> None:
    for number in range(3):
        _write_run(tmp_path, _ONE, 10 * number + 1, 10 * number + 10, number)
    _write_run(tmp_path, _TWO, 1, 5, 0)
    _write_run(tmp_path, _TWO, 6, 9, 998)
    _retention(tmp_path, keep_s=500).sweep()
    assert _removals(tmp_path) == {
        (_ONE, "duration"): [(1, 30, 3)],
        (_ONE, "account"): [(1, 30, 60)],  # observations, not files
        (_TWO, "duration"): [(1, 5, 1)],
        (_TWO, "account"): [(1, 5, 5)],
    }


def test_files_that_could_not_be_removed_are_not_in_the_account(
    tmp_path: Path, undeletable: Callable[..., None]
) -> None:
    for number in range(3):
        _publish(tmp_path, number).rename(
            tmp_path / str(_named(_ONE, 2 * number + 1, 2 * number + 2, "duration", number))
        )
    undeletable(1)
    retention = _retention(tmp_path, keep_s=500)
    for _ in range(2):
        retention.sweep()
        assert _removals(tmp_path) == {(_ONE, "duration"): [(1, 2, 1), (5, 6, 1)]}


def test_the_account_is_published_before_the_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_run(tmp_path, _ONE, 1, 2, 0)
    published: list[RemovedFiles] = []
    unlink = os.unlink

    def look(path: str) -> None:
        published.append(_removals(tmp_path))
        unlink(path)

    retention = _retention(tmp_path, keep_s=500)
    with monkeypatch.context() as patch:
        patch.setattr(
            syscalls, "unlink", lambda path: look(path) if path.endswith(".csv") else unlink(path)
        )
        retention.sweep()
    assert published == [{(_ONE, "duration"): [(1, 2, 1)], (_ONE, "account"): [(1, 2, 2)]}] * 2


def test_on_a_full_disk_files_are_removed_and_accounted_for_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_run(tmp_path, _ONE, 1, 2, 0)
    removed: list[str] = []
    unlink, open_file = os.unlink, syscalls.open_file

    def note(path: str) -> None:
        removed.append(path)
        unlink(path)

    def open_if_there_is_room(path: str, flags: int, mode: int = 0o600) -> int:
        if not removed and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "no space left")
        return open_file(path, flags, mode)

    monkeypatch.setattr(syscalls, "unlink", note)
    monkeypatch.setattr(syscalls, "open_file", open_if_there_is_room)
    _retention(tmp_path, keep_s=500).sweep()
    assert _removals(tmp_path)[_ONE, "duration"] == [(1, 2, 1)]


def test_the_content_of_a_removed_account_is_in_the_next_account(tmp_path: Path) -> None:
    _write_run(tmp_path, _ONE, 1, 2, 0)
    _retention(tmp_path, keep_s=500).sweep()
    (left,) = tmp_path.iterdir()
    old = parse(left.name)
    assert old is not None
    _write_run(tmp_path, _ONE, 3, 4, 10_000)
    later = FakeClock(EPOCH_NS + 10_100 * _S)
    Retention(str(tmp_path), 10**9, 500, later, lambda job: job()).sweep()
    assert not left.exists()
    assert _removals(tmp_path) == {
        (_ONE, "duration"): [(1, 2, 1)],
        (_ONE, "account"): [(1, 2, 2)],
    }


def test_writers_without_files_are_forgotten_after_a_day(tmp_path: Path) -> None:
    clock = FakeClock(EPOCH_NS + 1_000 * _S)
    retention = Retention(str(tmp_path), 10**9, 500, clock, lambda job: job())
    _write_run(tmp_path, _ONE, 1, 2, 0)
    retention.sweep()
    clock.now_ns += 25 * 3600 * _S
    _write_run(tmp_path, _TWO, 1, 2, 2_000)
    retention.sweep()
    assert {writer for writer, _ in _removals(tmp_path)} == {_TWO}


_OTHER_USER = """
import asyncio, os, sys
from aqltelemetry import Monitor, record
async def load():
    async with Monitor(sys.argv[2], with_runtime=False):
        record("x", 1)
asyncio.run(load())  # all modules, which another user may not be able to read
os.setgid(65534); os.setuid(65534)
async def main():
    async with Monitor(sys.argv[1], with_runtime=False, keep_s=5, stop_timeout_s=60) as mine:
        for _ in range(5):
            record("x", 1)
            await mine.flush()
    print(mine.stats())
    assert (mine.stats().recorded, mine.stats().published) == (5, 5)
    assert mine.stats().retention_errors >= 1
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_file_stops_neither_publishing_nor_retention(
    tmp_path: Path,
) -> None:
    directory = Path("/dev/shm") / f"aqltelemetry-test-{os.getpid()}"  # others may go there
    directory.mkdir()
    try:
        directory.chmod(0o1777)
        theirs, own = (_publish(directory, second) for second in (0, 1))
        os.chown(own, 65534, 65534)
        command = [sys.executable, "-c", _OTHER_USER, str(directory), str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert theirs.exists()
        assert not own.exists()
        assert done.stderr.count("remove old files") <= 1
    finally:
        shutil.rmtree(directory)


_WEEK_S = 7 * 86_400
_YEARS_NS = 20 * 365 * 86_400 * _S


def _with_stepped_clock(directory: Path, keep_bytes: int) -> Retention:
    """Return a Retention whose clock was set forward by years after its creation."""
    wall = FakeClock(EPOCH_NS + 10 * _S)
    retention = Retention(str(directory), keep_bytes, _WEEK_S, wall, lambda job: job())
    wall.now_ns += _YEARS_NS
    return retention


def test_a_clock_set_forward_makes_no_file_too_old(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [_publish(tmp_path, second) for second in (1, 2, 3)]
    retention = _with_stepped_clock(tmp_path, keep_bytes=10**9)
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        for _ in range(2):
            retention.sweep()
    assert all(path.exists() for path in files)
    (record,) = caplog.records
    assert record.message.startswith(
        f"the clock jumped forward to {utc(EPOCH_NS + 10 * _S + _YEARS_NS)}"
    )


def test_a_clock_set_forward_does_not_suspend_the_limit_of_bytes(tmp_path: Path) -> None:
    files = [_publish(tmp_path, second) for second in (1, 2, 3)]
    _with_stepped_clock(tmp_path, keep_bytes=250).sweep()
    assert [path.exists() for path in files] == [False, True, True]


def test_details_of_stalls_are_counted_and_removed_without_an_account(tmp_path: Path) -> None:
    details = [
        path.rename(path.with_name("stall-details" + path.name[8:-4] + ".jsonl"))
        for path in (_publish(tmp_path, second) for second in (1, 2))
    ]
    kept = _publish(tmp_path, 3)
    _retention(tmp_path, keep_bytes=250).sweep()
    assert [path.exists() for path in details] == [False, True]
    assert sorted(tmp_path.iterdir()) == sorted([kept, details[1]])
