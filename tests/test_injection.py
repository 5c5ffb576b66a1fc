"""Whichever system call of making, sealing, publishing and recovering fails, or is the last."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import logging
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry import Monitor, record
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.labels import TABLE_NAME
from aqltelemetry.recording.stats import Stats
from aqltelemetry.sinks.file_names import is_temporary, parse
from injection import (
    Fault,
    Kill,
    Witness,
    in_fork,
    injected,
    journal_of,
    recover_all,
    roots_of,
)

pytestmark = pytest.mark.system

Rows = Callable[[str], list[dict[str, str]]]
Property = Callable[[str, object], None]


FEW, MANY = 1, 300
"""Labels: with many, there is a table of them."""


def _observe(witness: Witness, labels: int) -> None:
    for _ in range(max(5, labels)):
        record(f"x {witness.value % labels}", witness.value)
        witness.count()


async def _record(directory: Path, witness: Witness, labels: int) -> Stats:
    """Record through all of a monitor's life: several segments, several files, a stop."""
    mine = Monitor(
        directory,
        journal_dir=journal_of(directory),
        with_runtime=False,
        with_fsync=True,
        stop_timeout_s=2,
    )
    await mine.start()
    for _ in range(3 if labels == FEW else 1):
        _observe(witness, labels)
        await mine.flush()
    _observe(witness, labels)
    return await mine.stop()


def _reset(directory: Path) -> None:
    for path in (directory, journal_of(directory)):
        shutil.rmtree(path, ignore_errors=True)


def _numbers(rows: Rows) -> Counter[int]:
    return Counter(round(float(row["Measurement"])) for row in rows("custom"))


def _await_our_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("aqltelemetry"):
            thread.join(60)


async def _check(directory: Path, rows: Rows, witness: Witness, where: str) -> None:
    """Check that all is there once after one recovery, and that a second has nothing to do."""
    await recover_all(directory)
    found, expected = _numbers(rows), set(range(witness.value))
    assert expected <= set(found), f"lost, {where}"
    assert len(found) <= len(expected) + 1, f"never recorded, {where}"
    assert not found or max(found.values()) == 1, f"twice, {where}"
    problems = [
        problem for each in verify(directory, roots_of(directory)) for problem in each.problems
    ]
    assert not problems, f"{problems}, {where}"
    left = [path for root in roots_of(directory) for path in root.rglob("*")]
    assert not left, f"left, {where}"
    assert (await recover_all(directory)).segments == 0
    assert _numbers(rows) == found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("labels", [FEW, MANY])
async def test_row_03_a_kill_at_each_call_loses_and_duplicates_nothing(
    directory: Path, rows: Rows, record_property: Property, labels: int
) -> None:
    for nth in itertools.count(1):
        _reset(directory)
        witness, fault = Witness(), Kill(nth)

        def work(fault: Fault = fault, witness: Witness = witness) -> None:
            with injected(fault):
                asyncio.run(_record(directory, witness, labels))

        code = await asyncio.to_thread(in_fork, work)
        await _check(directory, rows, witness, f"killed before call {nth}")
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert nth > 90
    record_property("runs", nth)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("labels", [FEW, MANY])
async def test_row_03_a_kill_at_each_call_of_a_recovery_loses_and_duplicates_nothing(
    directory: Path, rows: Rows, tmp_path: Path, record_property: Property, labels: int
) -> None:
    witness = Witness()

    def leave() -> None:
        async def work() -> None:
            mine = Monitor(directory, journal_dir=journal_of(directory), with_runtime=False)
            await mine.start()
            for _ in range(3):
                _observe(witness, labels)
                assert mine._session is not None
                await mine._session._loop.run_in_executor(
                    mine._session.journal_thread, mine._session._pool.seal
                )
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(work())

    assert await asyncio.to_thread(in_fork, leave) == -signal.SIGKILL
    tables = [path for root in roots_of(directory) for path in root.rglob(TABLE_NAME)]
    assert len(tables) == (labels == MANY)
    for path in (directory, journal_of(directory)):
        shutil.copytree(path, tmp_path / "kept" / path.name)
    for nth in itertools.count(1):
        _reset(directory)
        for path in (directory, journal_of(directory)):
            shutil.copytree(tmp_path / "kept" / path.name, path)

        def work(nth: int = nth) -> None:
            with injected(Kill(nth)):
                asyncio.run(recover_all(directory))

        code = await asyncio.to_thread(in_fork, work)
        await _check(directory, rows, witness, f"killed before call {nth}")
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert nth > 40
    record_property("runs", nth)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("labels", [FEW, MANY])
@pytest.mark.parametrize(
    ("number", "lasting"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["once", "lasting"]
)
async def test_row_24_an_error_of_each_call_loses_and_duplicates_nothing(
    directory: Path,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
    record_property: Property,
    number: int,
    lasting: bool,
    labels: int,
) -> None:
    """And reaches nobody; but that a monitor may not start."""
    caplog.set_level(logging.CRITICAL, "aqltelemetry")  # what is logged is kept, with its frames
    gc.collect()
    fds = len(os.listdir("/proc/self/fd"))
    for nth in itertools.count(1):
        _reset(directory)
        witness, fault = Witness(), Fault(nth, number, lasting=lasting)
        stats = Stats()
        with injected(fault):
            try:
                stats = await _record(directory, witness, labels)
            except OSError:
                assert witness.value == 0, f"the application saw call {nth} fail: {fault.struck}"
        # They give up the work started after an error, and hold the journal while a disk is slow.
        _await_our_threads()
        where = f"call {nth} failed: {fault.struck}"
        assert stats.recorded == witness.value, where
        assert stats.recorded == (
            stats.published + stats.in_journal + sum(stats.dropped.values())
        ), where
        if stats.is_crash_proof:
            assert not stats.dropped, where
            await _check(directory, rows, witness, where)
        names = [path.name for path in directory.glob("*")]
        if not lasting and fault.struck != "unlink":
            assert not any(is_temporary(name) for name in names), where
        assert all(parse(name) or is_temporary(name) for name in names), where
        if not fault.struck:
            break
    assert nth > 90
    record_property("runs", nth)
    gc.collect()  # a mapping has a descriptor
    assert len(os.listdir("/proc/self/fd")) <= fds + 2
