"""The format of the requests in flight, version 1; everything is little-endian.

A writer has one such file next to its segments. A slot holds a request while it is handled, so
that what a process was in can still be read after it was killed.

| bytes | what |
|---|---|
| 0-511 | header: magic, writer, PID, slots, clocks, boot, CRC-32 |
| 512-519 | how many requests are in flight without a slot, since all were taken |
| 520-535 | the last sign of life: a monotonic time in ns, and the epoch's offset at that time |
| 536-543 | kills by the kernel for lack of memory, counted at about that time; -1 if unknown |
| 544-1023 | the path of the file of the kernel that counts them, padded with zeros |
| 1024-end | slots of 256 bytes |

A slot is a control word, a begin (int64, monotonic ns), the thread (uint32, as the kernel numbers
it), 12 zero bytes, and at most 224 bytes of text, padded with zeros to a multiple of 8. The
control word is the length of the text (uint16), its kind (uint8), a state (uint8) and the CRC-32
of these 4 bytes and of the slot behind the word, seeded with the slot's position. It is stored
last, and zeroed to free the slot, by one store each. So a slot is free or whole at any moment.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from mmap import mmap
from typing import NamedTuple
from zlib import crc32

from aqltelemetry.errors import SegmentError

FILE_NAME = "in-flight"
"""The name of the file, in the directory of its writer."""
FILE_BYTES = 256 << 10
MAGIC = b"AQLFLY01"
NO_SLOT_AT = 512
ALIVE_AT = 520
OOM_KILLS_AT = 536
OOM_SOURCE_AT = 544
SLOTS_AT = 1024
SLOT_BYTES = 256
TEXT_AT = 32
TEXT_BYTES = SLOT_BYTES - TEXT_AT
SLOTS = (FILE_BYTES - SLOTS_AT) // SLOT_BYTES
UNKNOWN = -1

_HEADER = struct.Struct("<8s8sIIqq36s")
_CRC = struct.Struct("<I")
_CONTROL = struct.Struct("<HBB")
_SLOT = struct.Struct("<qI12x")
_CHECKED = struct.Struct("<HBBqI12x")
_PADDING = tuple(bytes(-length % 8) for length in range(TEXT_BYTES + 1))
_COUNT = struct.Struct("<q")
_ALIVE = struct.Struct("<qq")
_ALIGNED = 8
_NEVER_USED = bytes(TEXT_AT)


class InFlightHeader(NamedTuple):
    """What is constant in a file.

    Attributes:
        writer: 16 hexadecimal digits.
        pid: The process that records.
        at_ns: The monotonic clock when the file was made, in nanoseconds.
        offset_ns: What the epoch was ahead of it then, in nanoseconds.
        boot: The kernel's name of the time since the machine was started; empty if unknown.
    """

    writer: str
    pid: int
    at_ns: int
    offset_ns: int
    boot: str

    def pack(self) -> bytes:
        """Return the header's bytes."""
        body = _HEADER.pack(
            MAGIC,
            bytes.fromhex(self.writer),
            self.pid,
            SLOTS,
            self.at_ns,
            self.offset_ns,
            self.boot.encode()[:36],
        )
        return body + _CRC.pack(crc32(body))


class Request(NamedTuple):
    """A request in flight.

    `begin_ns` is by the monotonic clock; `thread` is the kernel's number of the thread that
    began it; `text` is a method and a path, as the client sent it; `slot` is the number of the
    slot.
    """

    begin_ns: int
    thread: int
    text: str
    slot: int


class InFlight(NamedTuple):
    """The content of a file.

    Attributes:
        header: What is constant.
        requests: The requests in flight, the oldest first.
        without_slot: How many more there are, which have no slot.
        damaged: Slots that are neither free nor whole.
        alive_ns: The last sign of life, by the monotonic clock.
        alive_offset_ns: What the epoch was ahead of that clock then.
        oom_kills: Kills by the kernel for lack of memory until then; `UNKNOWN` if not known.
        oom_source: The path of the file that counts them.
    """

    header: InFlightHeader
    requests: Sequence[Request]
    without_slot: int
    damaged: int
    alive_ns: int
    alive_offset_ns: int
    oom_kills: int
    oom_source: str


def pack_alive(at_ns: int, offset_ns: int) -> bytes:
    """Return the bytes at `ALIVE_AT`."""
    return _ALIVE.pack(at_ns, offset_ns)


def pack_count(count: int) -> bytes:
    """Return the bytes at `NO_SLOT_AT` or `OOM_KILLS_AT`."""
    return _COUNT.pack(count)


def pack_source(path: str) -> bytes:
    """Return the bytes at `OOM_SOURCE_AT`; of a path that is too long, none."""
    source = os.fsencode(path)
    return source if len(source) <= SLOTS_AT - OOM_SOURCE_AT else b""


def pack_slot(position: int, kind: int, begin_ns: int, thread: int, text: bytes) -> bytes:
    """Return the bytes of a slot, for `position` in the file, without unused text at its end."""
    text = text[:TEXT_BYTES]
    length = len(text)
    checked = _CHECKED.pack(length, kind, 0, begin_ns, thread) + text + _PADDING[length]
    return checked[:4] + _CRC.pack(crc32(checked, position)) + checked[4:]


def read_slot(data: bytes | memoryview | mmap, slot: int) -> Request | None:
    """Return the request in a slot; None if it is free. Raises SegmentError if it is damaged."""
    position = SLOTS_AT + slot * SLOT_BYTES
    entry = bytes(data[position : position + SLOT_BYTES])
    if not any(entry[:_ALIGNED]):
        return None
    length, kind, _ = _CONTROL.unpack_from(entry)
    end = TEXT_AT + length + -length % _ALIGNED
    checked = entry[: _CONTROL.size] + entry[_ALIGNED:end]
    if not kind or end > SLOT_BYTES or entry[4:8] != _CRC.pack(crc32(checked, position)):
        msg = f"damaged slot {slot}"
        raise SegmentError(msg)
    begin_ns, thread = _SLOT.unpack_from(entry, _ALIGNED)
    return Request(begin_ns, thread, _decoded(entry[TEXT_AT : TEXT_AT + length]), slot)


def read_in_flight(data: bytes | memoryview) -> InFlight:
    """Return the content of a file; raises SegmentError if its header is damaged."""
    header = _read_header(data)
    requests, damaged = [], 0
    for slot in range((len(data) - SLOTS_AT) // SLOT_BYTES):
        at = SLOTS_AT + slot * SLOT_BYTES
        if bytes(data[at : at + TEXT_AT]) == _NEVER_USED:
            break  # and so were those behind it, since a slot that was used is taken first
        try:
            request = read_slot(data, slot)
        except SegmentError:
            damaged += 1
        else:
            if request is not None:
                requests.append(request)
    alive_ns, alive_offset_ns = _ALIVE.unpack_from(data, ALIVE_AT)
    (without_slot,) = _COUNT.unpack_from(data, NO_SLOT_AT)
    (oom_kills,) = _COUNT.unpack_from(data, OOM_KILLS_AT)
    source = bytes(data[OOM_SOURCE_AT:SLOTS_AT]).rstrip(b"\0").decode(errors="replace")
    return InFlight(
        header,
        sorted(requests),
        without_slot,
        damaged,
        alive_ns,
        alive_offset_ns,
        oom_kills,
        source,
    )


def _read_header(data: bytes | memoryview) -> InFlightHeader:
    head = bytes(data[: _HEADER.size + _CRC.size])
    is_whole = len(data) >= SLOTS_AT and head.startswith(MAGIC)
    if not is_whole or head[_HEADER.size :] != _CRC.pack(crc32(head[: _HEADER.size])):
        msg = "damaged header of the requests in flight"
        raise SegmentError(msg)
    _, writer, pid, _, at_ns, offset_ns, boot = _HEADER.unpack_from(head)
    return InFlightHeader(writer.hex(), pid, at_ns, offset_ns, boot.rstrip(b"\0").decode())


def _decoded(text: bytes) -> str:
    # A path is UTF-8, or the bytes of it as WSGI passes them.
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
