"""Names what a thread waits on in a system call: a socket by its peer, a file, a child process.

The kernel shows the call and its arguments in `/proc/self/task/<thread>/syscall`, see proc(5). An
argument that is an address is read by `/proc/self/mem`, where a wrong one is an error only.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_IFMT
from typing import TypeAlias

from aqltelemetry.stalls.system_calls import (
    CHILD,
    DESCRIPTOR,
    READY,
    call_names,
    descriptor_name,
    polls,
    waits_by_id,
)

Peer: TypeAlias = Callable[[int], bytes]
"""Returns the address of a socket's peer as getpeername(2) does; empty if there is none."""
_ARGUMENTS = 6
_MOST_POLLED = 4
_POLLED = struct.Struct("=ihh")
_INT = 1 << 32
_PORT = struct.Struct("!H")


class WaitedOn:
    """Names what one thread waits on.

    Args:
        call: Returns the line of the kernel about the system call of the thread.
        peer: Finds the peers of sockets.
    """

    def __init__(self, call: Callable[[], str], peer: Peer) -> None:
        self._call = call
        self._peer = peer
        self._names = call_names()

    def look(self) -> str:
        """Return what the thread waits on at this moment; "" if it can't be said."""
        before = self._call()
        found = self.name(before) if before else ""
        # If the thread is in another call by now, the descriptor may have become another one.
        return found if found and self._call() == before else ""

    def name(self, text: str) -> str:
        """Return what a thread waits on by the line that the kernel shows of it."""
        words = text.split()
        if len(words) <= _ARGUMENTS:
            return ""
        with suppress(OSError, ValueError, struct.error):
            number = int(words[0])
            arguments = [int(word, 16) for word in words[1 : _ARGUMENTS + 1]]
            kind = self._names.get(number)
            if kind == DESCRIPTOR:
                return self._descriptor(arguments[0] % _INT)
            if kind == READY and number in polls():
                return ", ".join(map(self._descriptor, _polled(arguments[0], arguments[1])))
            if kind == CHILD:
                return _process(arguments[1 if number in waits_by_id() else 0] % _INT)
        return ""

    def _descriptor(self, fd: int) -> str:
        kind = descriptor_name(S_IFMT(os.fstat(fd).st_mode))
        if kind == "socket":
            peer = _address(self._peer(fd))
            return f"socket to {peer}" if peer else kind
        target = os.readlink(f"/proc/self/fd/{fd}")
        return f"{kind} {target}" if target.startswith("/") else kind


def _polled(address: int, count: int) -> Iterator[int]:
    """Yield the descriptors of a call of poll(2)."""
    if count > _MOST_POLLED:
        return
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, count * _POLLED.size, address)
    finally:
        os.close(memory)
    for fd, _, _ in _POLLED.iter_unpack(data):
        if fd >= 0:
            yield fd


def _process(pid: int) -> str:
    if not 0 < pid < _INT // 2:
        return ""  # any child
    name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    return f"process {pid} ({name})"


def _address(data: bytes) -> str:
    """Return an address of a socket in words; see ip(7), ipv6(7) and unix(7)."""
    family = int.from_bytes(data[:2], "little") if data else -1
    if family == socket.AF_UNIX:
        path = data[2:]
        if path.startswith(b"\0"):
            return "@" + path[1:].rstrip(b"\0").decode(errors="replace")
        return path.partition(b"\0")[0].decode(errors="replace")
    places: Mapping[int, tuple[slice, str]] = {
        socket.AF_INET: (slice(4, 8), "{}:{}"),
        socket.AF_INET6: (slice(8, 24), "[{}]:{}"),
    }
    if family not in places:
        return ""
    place, form = places[family]
    return form.format(socket.inet_ntop(family, data[place]), *_PORT.unpack(data[2:4]))
