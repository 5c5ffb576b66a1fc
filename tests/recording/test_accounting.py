"""After any sequence of events, each observation is in one place, and counted there."""

from __future__ import annotations

import asyncio
import csv
import errno
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from aiofiles.threadpool.binary import AsyncBufferedIOBase
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aqltelemetry import record
from aqltelemetry.audit.verify import verify
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.sealed import SealedSegment
from aqltelemetry.journal.writer import Writer, WriterOptions
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.recording import recorder
from aqltelemetry.recording.segment_pool import SegmentPool
from aqltelemetry.runtime.delivery import read_sealed
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import Anchor, epoch_ns, read_anchor
from injection import recover_all, roots_of

_EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
_HOUR_NS = 3600 * 10**9


class _Inline(Executor):
    """Does what a worker thread would, at once."""

    def post(self, job: Any) -> None:
        job()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


class _Process:
    """One life of a recording process, without threads."""

    def __init__(self, directory: Path) -> None:
        inline: Any = _Inline()
        root = roots_of(directory)[0]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.handed: list[SealedSegment] = []
        self.taken: dict[Any, tuple[SealedSegment, int]] = {}
        # Of today, or retention would take what is dated by it.
        self.writer = Writer.in_journal(
            root, WriterOptions(str(directory), 16 << 20, epoch_ns, LabelLimit())
        )
        self.pool = SegmentPool(inline, self.writer, self.handed.append, 8 << 20)
        self.recording = self.pool.open(self.writer.new_segment(), read_anchor())
        self.sink = CsvSink(str(directory), inline, Retention(str(directory), 1 << 40, 10**9))
        recorder.install(self.recording)

    def crash(self) -> None:
        recorder.remove(self.recording)
        os.close(self.writer._lock_fd)


class Accounting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="aqltelemetry-model-"))
        self.directory = self.base / "monitoring"
        self.directory.mkdir()
        self.runner = asyncio.Runner()
        self.patch = pytest.MonkeyPatch()
        self.process: _Process | None = None
        self.is_full = False
        self.recorded = 0
        self.dropped = 0
        self.removed = 0
        self.patch.setattr(syscalls, "allocate", self._limited(syscalls.allocate))
        writelines = AsyncBufferedIOBase.writelines
        self.patch.setattr(AsyncBufferedIOBase, "writelines", self._limited(writelines))

    def _limited(self, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if self.is_full:
                raise OSError(errno.ENOSPC, "no space left")
            return real(*arguments)

        return call

    def teardown(self) -> None:
        if self.process is not None:
            self.crash()
        self.is_full = False
        self.recover()
        self.accounted()
        self.runner.close()
        self.patch.undo()
        shutil.rmtree(self.base)

    @precondition(lambda self: self.process is None and not self.is_full)
    @rule()
    def start(self) -> None:
        self.process = _Process(self.directory)

    @precondition(lambda self: self.process is not None)
    @rule(count=st.integers(1, 30), prefix=st.sampled_from(("custom", "mine", "no prefix!")))
    def observe(self, count: int, prefix: str) -> None:
        assert self.process is not None
        before = sum(self.process.recording.drops.values())
        for _ in range(count):
            record("x", self.recorded, prefix)
            self.recorded += 1
        self.dropped += sum(self.process.recording.drops.values()) - before

    @precondition(lambda self: self.process is not None)
    @rule(labels=st.sampled_from((200, 300)))
    def observe_labels(self, labels: int) -> None:
        """So many that there is a table of them from some time on."""
        assert self.process is not None
        before = sum(self.process.recording.drops.values())
        for number in range(labels):
            record(f"label {number}", self.recorded)
            self.recorded += 1
        self.dropped += sum(self.process.recording.drops.values()) - before

    @precondition(lambda self: self.process is not None)
    @rule()
    def seal(self) -> None:
        assert self.process is not None
        self.process.pool.seal()

    @precondition(lambda self: self.process is not None)
    @rule()
    def write(self) -> None:
        """Hand a sealed segment to the sink; what fails is tried again, as by the drain."""
        mine = self.process
        assert mine is not None
        if mine.handed:
            sealed = mine.handed[0]
            reading = read_sealed(sealed)
            mine.taken[sealed.id] = (sealed, reading.records)
            del mine.handed[0]
            self._keep(mine, mine.sink.write(reading.batch))

    @precondition(lambda self: self.process is not None)
    @rule()
    def flush(self) -> None:
        assert self.process is not None
        self._keep(self.process, self.process.sink.flush())

    def _keep(self, mine: _Process, work: Any) -> None:
        try:
            kept = self.runner.run(work)
        except OSError:
            mine.handed[:0] = [sealed for sealed, _ in mine.taken.values()]
            mine.taken.clear()
            return
        for segment in kept:
            mine.pool.release(*mine.taken.pop(segment))

    @precondition(lambda self: self.process is not None)
    @rule(hours=st.sampled_from((-1, 1)))
    def step_clock(self, hours: int) -> None:
        assert self.process is not None
        now = read_anchor()
        self.process.recording.renew(Anchor(now.at_ns, now.offset_ns + hours * _HOUR_NS))

    @precondition(lambda self: self.process is not None)
    @rule()
    def crash(self) -> None:
        assert self.process is not None
        self.process.crash()
        self.process = None

    @precondition(lambda self: self.process is not None)
    @rule()
    def stop(self) -> None:
        mine = self.process
        assert mine is not None
        recorder.remove(mine.recording)
        mine.pool.close()
        while mine.handed and not self.is_full:
            self.write()
        self.flush()
        self.runner.run(mine.sink.close())
        mine.writer.close()
        self.process = None

    @rule()
    def fill_or_clear_the_disk(self) -> None:
        self.is_full = not self.is_full

    @rule()
    def recover(self) -> None:
        try:
            self.runner.run(recover_all(self.directory))
        except OSError:
            assert self.is_full

    @rule(data=st.data())
    def remove_a_file(self, data: st.DataObject) -> None:
        """As a reader does, but for the accounts, by which that is known."""
        paths = [path for path in sorted(self.directory.glob("*.csv")) if ACCOUNT not in path.name]
        if paths:
            path = data.draw(st.sampled_from(paths))
            self.removed += path.read_bytes().count(b"\n") - 1
            path.unlink()

    @invariant()
    def accounted(self) -> None:
        verdicts = verify(self.directory, roots_of(self.directory))
        assert [problem for each in verdicts for problem in each.problems] == []
        dropped = sum(drop.total for each in verdicts for drop in each.dropped)
        removed = sum(each.removed for each in verdicts)
        assert (dropped, removed) == (self.dropped, self.removed)
        assert sum(each.accepted for each in verdicts) == self.recorded - self.dropped
        found = Counter(self._rows())
        assert not found or max(found.values()) == 1
        assert found.total() == sum(each.rows for each in verdicts)

    def _rows(self) -> list[float]:
        values = []
        for path in self.directory.glob("*.csv"):
            if ACCOUNT not in path.name:
                with path.open(newline="") as file:
                    values += [float(row["Measurement"]) for row in csv.DictReader(file)]
        return values


# A process that is killed closes no file, and here its files are this process's.
TestAccounting = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")(
    Accounting.TestCase
)
TestAccounting.settings = settings(
    max_examples=_EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
