"""The requests that this process handles at this moment, in memory that survives it.

Claiming and releasing a slot takes no lock and calls nothing that may raise: a thread takes a
slot from a list in one step under the interpreter's lock. `_in_flight_slots.pyx` is the compiled
twin, and does the same. Where all slots are taken, further requests are counted.
"""

from __future__ import annotations

import mmap
from threading import get_native_id

from aqltelemetry.journal import in_flight as fmt
from aqltelemetry.journal.in_flight import pack_count, pack_slot

NO_HANDLE = 0
"""The handle of a request that begins while there are no slots."""
REQUEST = 1
"""The kind of a slot whose text is a method and a path."""
_SLOT_BITS = 16
_NO_SLOT = (1 << _SLOT_BITS) - 1
_FREE = bytes(8)


class _Table:
    """The slots of one recording; `generation` distinguishes its handles from earlier ones."""

    def __init__(self, mapped: mmap.mmap, generation: int) -> None:
        self.map = mapped
        self.generation = generation
        # The last one released is claimed next, so that few pages are in use.
        self.free = list(range(fmt.SLOTS - 1, -1, -1))
        self.without_slot = 0
        self.used = 0


_table: _Table | None = None
_generation = 0


def install(mapped: mmap.mmap | None) -> None:
    """Use the slots of a mapped file from now on; None for none."""
    global _table, _generation  # noqa: PLW0603 - there is one table in a process
    _generation += 1
    _table = None if mapped is None else _Table(mapped, _generation)


def installed() -> mmap.mmap | None:
    """Return the mapped file in use."""
    table = _table
    return None if table is None else table.map


def claim(method: object, path: object, begin_ns: int) -> int:
    """Store a request that begins; return the handle by which it is released.

    Args:
        method: The method of the request.
        path: Its path; the part from the first `?` on is left out.
        begin_ns: When it began, by the monotonic clock, in nanoseconds.
    """
    table = _table
    if table is None:
        return NO_HANDLE
    try:
        slot = table.free.pop()
    except IndexError:
        table.without_slot += 1
        table.map[fmt.NO_SLOT_AT : fmt.NO_SLOT_AT + 8] = pack_count(table.without_slot)
        return table.generation << _SLOT_BITS | _NO_SLOT
    if slot >= table.used:
        table.used = slot + 1
    at = fmt.SLOTS_AT + slot * fmt.SLOT_BYTES
    entry = pack_slot(at, REQUEST, begin_ns, get_native_id(), _text(method, path))
    table.map[at + 8 : at + len(entry)] = entry[8:]
    table.map[at : at + 8] = entry[:8]
    return table.generation << _SLOT_BITS | slot


def release(handle: int) -> None:
    """Free the slot of a request that has ended; a handle of an earlier recording is ignored."""
    table = _table
    if table is None or handle >> _SLOT_BITS != table.generation:
        return
    slot = handle & _NO_SLOT
    if slot == _NO_SLOT:
        table.without_slot -= 1
        table.map[fmt.NO_SLOT_AT : fmt.NO_SLOT_AT + 8] = pack_count(table.without_slot)
        return
    at = fmt.SLOTS_AT + slot * fmt.SLOT_BYTES
    table.map[at : at + 8] = _FREE
    table.free.append(slot)


def used() -> int:
    """Return how many of the first slots were ever in use."""
    table = _table
    return 0 if table is None else table.used


def count() -> int:
    """Return how many requests are in flight, with and without a slot."""
    table = _table
    return 0 if table is None else fmt.SLOTS - len(table.free) + table.without_slot


def _text(method: object, path: object) -> bytes:
    try:
        return f"{method:.16} {path:.1000}".partition("?")[0].encode("latin-1")
    except (TypeError, ValueError):  # one of them is no text, or in another alphabet
        return _encoded(method)[:16] + b" " + _encoded(path).partition(b"?")[0]


def _encoded(text: object) -> bytes:
    if not isinstance(text, str):
        return b""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        pass
    try:
        return text.encode()
    except UnicodeEncodeError:  # it has lone surrogates
        return b""
