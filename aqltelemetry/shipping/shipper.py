"""Ships the published files of directories to one destination, each file once.

A shipment is planned in the ledger, sent, and then noted as shipped. A shipper that starts, or
reconnects, first settles the shipment of which it does not know whether it arrived.
"""

from __future__ import annotations

import asyncio
import os
import random as random_numbers
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from aqltelemetry.shipping.archived import Unpacked, Unpacker
from aqltelemetry.shipping.backoff import Backoff
from aqltelemetry.shipping.destination import (
    Destination,
    FileGone,
    Receipt,
    Shipment,
    ShippedFile,
    Unavailable,
    note_key,
)
from aqltelemetry.shipping.ledger import Ledger, Plan, PlannedFile
from aqltelemetry.shipping.pending import (
    MAX_FILES,
    PendingFile,
    Present,
    list_present,
    pending,
    plans,
    remembered,
)
from aqltelemetry.shipping.removal import ShippedRemoval
from aqltelemetry.sinks import file_names
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from aqltelemetry.system.directory_times import DirectoryTimes

STOP_S = 4.0
"""How long a shipment that is being sent may go on after a stop, in seconds."""
_ASK_FILES = 1000
_RELISTS = 3
_FORGET_NS = 30 * 86400 * NS_PER_S
_FORGET_EVERY_NS = 3600 * NS_PER_S


_T = TypeVar("_T")


class GaveUp(Exception):  # noqa: N818 - a result
    """Raised when the destination could not be reached in the allowed number of attempts."""


@dataclass(slots=True)
class Progress:
    """What one run of a shipper has done so far."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    refused: int = 0
    gone: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Surroundings:
    """What a shipper gets from outside, so that tests can replace it.

    Attributes:
        report: Called with a line for people.
        advance: Called with the number of bytes of each shipment after it has arrived.
        started: Called with this object on the event loop, once that runs.
        begin: Called with the number of bytes that are about to be shipped.
        now_ns: Returns the time in nanoseconds since the epoch.
        sleep: Waits for seconds.
        random: Returns a random number from 0 to 1.
        attempts: The number of failed attempts in a row after which to give up; None for no limit.
        stop: Set to end.
        last: Set to end after shipping once more, if the shipper follows.
    """

    report: Callable[[str], object] = lambda _: None
    advance: Callable[[int], object] = lambda _: None
    begin: Callable[[int], object] = lambda _: None
    started: Callable[[Surroundings], object] = lambda _: None
    now_ns: Callable[[], int] = epoch_ns
    sleep: Callable[[float], Coroutine[Any, Any, object]] = asyncio.sleep
    random: Callable[[], float] = random_numbers.random
    attempts: int | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    last: asyncio.Event = field(default_factory=asyncio.Event)


class Shipper:
    """Ships the files of `directories` to a destination.

    `removal` removes files after they were shipped; None to keep them.
    """

    def __init__(
        self,
        directories: Sequence[str],
        ledger: Ledger,
        destination: Destination,
        around: Surroundings,
        removal: ShippedRemoval | None = None,
    ) -> None:
        self.done = Progress()
        self._directories = directories
        self._ledger = ledger
        self._destination = destination
        self._around = around
        self._removal = removal
        self._backoff = Backoff(around.random)
        self._is_open = False
        self._is_first = True
        self._was_reached = False
        self._present = Present({}, {}, {})
        self._unreadable: set[str] = set()
        self._unpacker = Unpacker(os.path.abspath(f"{ledger.path}.files"))
        self._forgotten_ns = 0
        self._times = DirectoryTimes(directories, around.now_ns)
        self._has_all = False

    async def ship(self) -> None:
        """Ship all files that are there now.

        Returns early after a stop.

        Raises:
            GaveUp: The destination could not be reached.
            DestinationError: It can't be used as it is.
        """
        if self._is_first:
            self._ledger.use(self._directories)
        await self._settle()
        while not self._around.stop.is_set():
            if self._has_all and self._times.are_unchanged():
                self._remove()
                return
            found = self._pending()
            if self._is_first:
                # Until it was asked for all that is there at first.
                self._is_first = len(found) == MAX_FILES
                new = await self._without_arrived(found)
                if found and not new:
                    continue
                found = new
            # What can't be read now may be readable later, without a change of the directory.
            self._has_all = not found and not self._unreadable
            if not found:
                self._remove()
                return
            self._around.begin(sum(file.size_bytes for file in found))
            limits = self._destination.max_files, self._destination.max_bytes
            for plan in plans(found, *limits):
                if self._around.stop.is_set():
                    return
                self._ledger.plan(plan)
                await self._deliver(plan)

    async def follow(self, interval_s: float) -> None:
        """Ship files as they are published, until a stop; look for new ones at an interval."""
        while not self._around.stop.is_set():
            is_last = self._around.last.is_set()
            await self.ship()
            if is_last:
                return
            self._forget()
            await self._wait(interval_s)

    async def close(self) -> None:
        """Disconnect from the destination."""
        if self._is_open:
            self._is_open = False
            await self._destination.close()
        self._unpacker.clear()

    def _pending(self) -> list[PendingFile]:
        self._times.note()
        self._present = list_present(self._directories)
        unreadable = dict(self._present.unreadable)
        found = pending(self._present, self._ledger, unreadable.__setitem__)
        for path, reason in unreadable.items():
            if path not in self._unreadable:
                self._around.report(f"{path} can't be read: {reason}")
        self._unreadable = set(unreadable)
        return found

    async def _settle(self) -> None:
        """Send the shipment again of which it is unknown whether it arrived."""
        plan = self._ledger.planned()
        if plan is not None:
            self._present = list_present(self._directories)
            await self._deliver(plan)

    async def _without_arrived(self, found: Sequence[PendingFile]) -> list[PendingFile]:
        """Leave out what the destination has; the ledger may be newer than the destination."""
        arrived: set[str] = set()
        for start in range(0, len(found), _ASK_FILES):
            names = [file.published for file in found[start : start + _ASK_FILES]]
            answer = await self._persist(partial(self._destination.shipped, names))
            arrived |= answer or frozenset()
        have = [file for file in found if file.published in arrived]
        if have:
            files = [PlannedFile(file.published, file.size_bytes) for file in have]
            self._ledger.arrived(files, self._around.now_ns())
            self._around.report(f"{len(have):,} files are there already")
        return [file for file in found if file.published not in arrived]

    async def _deliver(self, plan: Plan) -> None:
        """Send a planned shipment until it has arrived or is replaced, or a stop."""
        for _ in range(_RELISTS):
            try:
                sent = await self._persist(lambda: self._send(plan))
            except FileGone:
                # Perhaps it was only compressed or archived, and is somewhere else now.
                self._present = list_present(self._directories)
                if self._present.missing(file.name for file in plan.files):
                    break
            else:
                if sent is not None:
                    self._note(*sent)
                    self._around.advance(sum(file.size_bytes for file in plan.files))
                return
        await self._without_gone(plan)

    async def _send(self, plan: Plan) -> tuple[Plan, Receipt]:
        """Send a shipment; return it with the sizes of its files, and the result."""
        paths, refused = await self._paths(plan)
        planned = [
            PlannedFile(name, size if name in self._present.paths else _size(paths.get(name)))
            for name, size in plan.files
        ]
        files = [ShippedFile(each.name, paths[each.name]) for each in planned if each.name in paths]
        keys = {note_key(plan.prefix, file_names.writer(file.name)) for file in plan.files}
        shipment = Shipment(plan.id, plan.prefix, files, self._ledger.notes(keys))
        receipt = await self._destination.ship(shipment) if files else Receipt(0)
        receipt = replace(receipt, refused={**receipt.refused, **refused})
        return replace(plan, files=planned), receipt

    async def _paths(self, plan: Plan) -> Unpacked:
        """Return where the files of a shipment are; those in archives are unpacked."""
        paths = self._present.paths
        names = [file.name for file in plan.files]
        archived = self._present.archived([name for name in names if name not in paths])
        try:
            unpacked = await asyncio.to_thread(self._unpacker.unpack, archived)
        except FileNotFoundError as exc:
            raise FileGone(str(exc)) from exc
        except OSError as exc:
            raise Unavailable(f"archived files can't be made in {exc}") from exc
        found = {**unpacked.paths, **{name: paths[name] for name in names if name in paths}}
        for name in names:
            if name not in found and name not in unpacked.refused:
                raise FileGone(name)
        return Unpacked(found, unpacked.refused)

    def _note(self, plan: Plan, receipt: Receipt) -> None:
        self._ledger.shipped(plan, receipt, self._around.now_ns())
        arrived = [file for file in plan.files if file.name not in receipt.refused]
        self.done.files += len(arrived)
        self.done.rows += receipt.rows
        self.done.bytes += sum(file.size_bytes for file in arrived)
        self.done.refused += len(receipt.refused)
        for name, reason in receipt.refused.items():
            self._around.report(f"refused: {name}: {reason}")

    async def _without_gone(self, plan: Plan) -> None:
        """Note what of a shipment is there, and what is gone; the rest is planned again."""
        names = [file.name for file in plan.files]
        arrived = await self._persist(lambda: self._destination.shipped(names))
        if arrived is None:
            return
        now_ns = self._around.now_ns()
        self._ledger.arrived([file for file in plan.files if file.name in arrived], now_ns)
        left = [file for file in plan.files if file.name not in arrived]
        missing = self._present.missing(file.name for file in left)
        gone = [file for file in left if file.name in missing]
        self._ledger.gone(gone, now_ns)
        self._ledger.forget_plan()
        self.done.gone += len(gone)
        for file in gone:
            self._around.report(f"removed before it was shipped: {file.name}")

    async def _persist(self, attempt: Callable[[], Coroutine[Any, Any, _T]]) -> _T | None:
        """Call a method of the destination until it can be reached; None after a stop."""
        while not self._around.stop.is_set():
            try:
                if not self._is_open and not await self._until_stop(self._open()):
                    return None
                result = await self._until_stop(attempt())
            except Unavailable as exc:
                await self.close()
                wait_s = self._backoff.next_s()
                if self._backoff.failures == 1:
                    self._ledger.failing(str(exc), self._around.now_ns())
                if (
                    self._around.attempts is not None
                    and self._backoff.failures >= self._around.attempts
                ):
                    raise GaveUp(str(exc)) from exc
                if self._backoff.failures == 1:
                    self._around.report(f"the destination can't be reached: {exc}; trying again")
                await self._wait(wait_s)
            else:
                if not self._was_reached or self._backoff.failures:
                    self._ledger.reached()
                    self._was_reached = True
                if self._backoff.failures:
                    self._around.report("the destination is reached again")
                self._backoff.reset()
                return result
        return None

    async def _open(self) -> bool:
        # Even a failed attempt may leave something to close.
        self._is_open = True
        await self._destination.open()
        return True

    async def _until_stop(self, call: Coroutine[Any, Any, _T]) -> _T | None:
        """Return the result of a call; None if it has not ended `STOP_S` after a stop."""
        task = asyncio.ensure_future(call)
        stopped = asyncio.ensure_future(self._around.stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=STOP_S)
            return task.result() if task.done() else None
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _wait(self, seconds: float) -> None:
        """Wait, at most until a stop."""
        around = self._around
        waits = (around.sleep(seconds), around.stop.wait(), around.last.wait())
        tasks = {asyncio.ensure_future(each) for each in waits}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()

    def _remove(self) -> None:
        if self._removal is not None:
            removed = self._removal.sweep(self._present, self._around.now_ns())
            self.done.deleted += removed

    def _forget(self) -> None:
        """Keep the ledger small: files that left the directories long ago do not come back."""
        now_ns = self._around.now_ns()
        # What can't be read now may come back.
        if now_ns - self._forgotten_ns >= _FORGET_EVERY_NS and not self._unreadable:
            self._forgotten_ns = now_ns
            names = remembered(self._present, self._ledger)
            self._ledger.forget(now_ns - _FORGET_NS, names, self._present.archives.keys())


def _size(path: str | None) -> int:
    return 0 if path is None else syscalls.look_at(path).st_size
