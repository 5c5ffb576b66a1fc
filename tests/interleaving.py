"""Interleaves a reader with processes that record, publish, die and recover, call by call.

Both run on threads of which only one runs at a time. Before each system call of either, it is
decided at random whether the other one goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import pytest

from aqltelemetry.journal.counters import CounterName, store_counter
from aqltelemetry.journal.dead_writers import DeadWriter, lock_dead_writers
from aqltelemetry.journal.format import DURATION_LAYOUT, VALUE_LAYOUT
from aqltelemetry.journal.labels import SeriesKey
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.sealed import SealedSegment, seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.reading import sources
from aqltelemetry.runtime.delivery import read_sealed
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import Anchor
from fakes import EPOCH_NS, writer_options
from injection import CALLS


class Killed(BaseException):
    """Raised in the thread that stands for a killed process, at each system call from then on."""


class Turns:
    """Lets one of two threads run at a time, and switches between them at random."""

    def __init__(self, choose: random.Random, share: float) -> None:
        self.kill_at = -1
        self._choose = choose
        self._share = share
        self._condition = threading.Condition()
        self._reader = threading.current_thread()
        self._running = self._reader
        self._process: threading.Thread | None = None
        self._calls = 0

    @contextmanager
    def process(self, work: Callable[[], None]) -> Iterator[Callable[[], bool]]:
        """Run `work` on the other thread; yield a function that says whether it still runs."""
        failures: list[BaseException] = []
        self._calls = 0

        def run() -> None:
            try:
                with self._condition:
                    self._condition.wait_for(lambda: self._running is not self._reader)
                work()
            except BaseException as exc:  # raised again below
                failures.append(exc)
            finally:
                with self._condition:
                    self._process, self._running = None, self._reader
                    self._condition.notify_all()

        thread = self._process = threading.Thread(target=run)
        thread.start()
        try:
            yield thread.is_alive
        finally:
            while thread.is_alive():
                self._switch(self._reader)
            thread.join()
        if failures:
            raise failures[0]

    def meet(self) -> None:
        """Perhaps let the other thread run; called before each system call."""
        me = threading.current_thread()
        if me not in (self._reader, self._process):
            return
        if self._process is not None and self._choose.random() < self._share:
            self._switch(me)
        if me is not self._reader:
            self._calls += 1
            if 0 <= self.kill_at <= self._calls:
                raise Killed

    def _switch(self, me: threading.Thread) -> None:
        with self._condition:
            if self._process is None:
                return
            self._running = self._process if me is self._reader else self._reader
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._running is me)

    @contextmanager
    def at_each_call(self) -> Iterator[None]:
        """Call `meet` before each system call."""

        def meeting(real: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                self.meet()
                return real(*arguments, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for place, name in CALLS:
                patch.setattr(place, name, meeting(getattr(place, name)))
            for name in ("list_directory", "list_unsorted"):
                patch.setattr(syscalls, name, self._torn(getattr(syscalls, name)))
            yield

    def _torn(self, real: Callable[[Any], Sequence[str]]) -> Callable[[Any], Sequence[str]]:
        """List a directory in two steps, in the order of hashes, as some file systems do."""

        def list_directory(path: Any) -> Sequence[str]:
            halves = [real(path), real(path)]
            return sorted(
                name for half in (0, 1) for name in halves[half] if crc32(name.encode()) % 2 == half
            )

        return list_directory


class InlineExecutor(Executor):
    """Runs each job at once, on the thread that submits it."""

    def submit(self, job: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(job(*arguments, **options))
        except Exception as exc:
            future.set_exception(exc)
        return future


class Process:
    """A process that records numbers, publishes them, and stops or is killed."""

    def __init__(
        self, directory: Path, root: Path, choose: random.Random, max_file_bytes: int
    ) -> None:
        self.recorded: set[int] = set()
        self._directory = directory
        self._root = root
        self._choose = choose
        self._options = writer_options(str(directory), max_file_bytes)

    def live(self, steps: int) -> None:
        """Record and publish, a number of random steps; then stop."""
        writer = Writer.in_journal(self._root, self._options)
        sealed: list[SealedSegment] = []
        try:
            segment = self._next(writer, 0)
            for _ in range(steps):
                self._record(segment)
                if self._choose.random() < 0.5:
                    sealed.append(seal(segment))
                    segment = self._next(writer, len(self.recorded))
                if sealed and self._choose.random() < 0.4:
                    asyncio.run(self._publish(sealed))
            store_counter(segment, CounterName.ENDED, 1)
            sealed.append(seal(segment))
            asyncio.run(self._publish(sealed))
            writer.close()
        finally:
            if writer._lock_fd >= 0:
                os.close(writer._lock_fd)  # as the kernel does when a process dies
                writer._lock_fd = -1

    def recover(self) -> None:
        """Publish what dead processes left."""
        for dead in lock_dead_writers(self._root):
            try:
                asyncio.run(self._recover(dead))
                dead.close()
            finally:
                if dead._lock_fd >= 0:
                    os.close(dead._lock_fd)
                    dead._lock_fd = -1

    def _next(self, writer: Writer, before: int) -> Segment:
        segment = writer.new_segment(lambda: None)
        segment.append_anchor(Anchor(0, EPOCH_NS))
        store_counter(segment, CounterName.ACCEPTED_BEFORE, before)
        return segment

    def _record(self, segment: Segment) -> None:
        for _ in range(self._choose.randrange(1, 4)):
            number = len(self.recorded)
            key: SeriesKey = "block" if self._choose.random() < 0.5 else ("custom", "own")
            layout, value = VALUE_LAYOUT, float(number)
            if key == "block":
                layout, value = DURATION_LAYOUT, number * 10**9
            label_id = segment.id_of(key)
            at = next(segment.slots)
            assert label_id is not None
            crc = crc32(layout.pack(number, value, label_id), at)
            layout.store(segment.map, at, number, value, label_id, crc)
            self.recorded.add(number)

    def _sink(self) -> CsvSink:
        retention = Retention(str(self._directory), 1 << 40, 10**9, start=lambda _: None)
        return CsvSink(str(self._directory), InlineExecutor(), retention)

    async def _publish(self, sealed: list[SealedSegment]) -> None:
        sink = self._sink()
        for each in sealed:
            await sink.write(read_sealed(each).batch)
        await sink.flush()
        while sealed:
            sealed[0].discard()
            del sealed[0]

    async def _recover(self, dead: DeadWriter) -> None:
        sink = self._sink()
        for sealed in tuple(dead.segments):
            await sink.write(read_sealed(sealed).batch)
            await sink.flush()
            dead.discard(sealed)


def _ends_killed(work: Callable[[], None]) -> Callable[[], None]:
    """Return `work` as a process that may be killed."""

    def killed() -> None:
        with suppress(Killed):
            work()

    return killed


class Reader(Protocol):
    """Reads what a process records."""

    def check(self, process: Process) -> None:
        """Read, and assert that each number is there once, and none that was not recorded."""


def check_interleaved(place: Path, seed: int, make: Callable[[Path, Path], Reader]) -> None:
    """Check readers again and again while a process records, dies and is recovered.

    Args:
        place: An empty directory.
        seed: Decides who runs after each system call, and much else.
        make: Makes a reader of a monitoring directory and a journal's directory.
    """
    choose = random.Random(seed)
    directory, journal = place / "monitoring", place / "journal"
    directory.mkdir()
    (root,) = all_roots(str(directory), str(journal))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_LISTINGS", choose.choice((1, 2, 10)))
        process = Process(directory, root, choose, max_file_bytes=choose.choice((150, 1 << 20)))
        turns = Turns(choose, share=choose.choice((0.05, 0.2, 0.5)))
        with turns.at_each_call():
            for work in (lambda: process.live(6), process.recover, process.recover):
                turns.kill_at = choose.choice((-1, choose.randrange(20, 120)))
                reader = make(directory, journal)
                with turns.process(_ends_killed(work)) as is_running:
                    while is_running():
                        reader.check(process)
                        turns.meet()
                reader.check(process)
                make(directory, journal).check(process)
