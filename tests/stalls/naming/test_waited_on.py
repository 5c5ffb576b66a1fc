"""What a thread waits on is named by the line that the kernel shows of its system call."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.stalls.naming.waited_on import WaitedOn
from twinned import compiled_twin

_X86 = platform.machine() in {"x86_64", "amd64"}
pytestmark = pytest.mark.skipif(not _X86, reason="the numbers of system calls are of x86-64")
_LIMIT_S = 30.0
_READ, _POLL, _WAIT4, _FUTEX, _EPOLL_WAIT = 0, 7, 61, 202, 232


def _line(number: int, *arguments: int) -> str:
    six = [*arguments, *[0] * (6 - len(arguments))]
    return " ".join([str(number), *map(hex, six), "0x7ffd0", "0x7f00"])


def _no_peer(_: int) -> bytes:
    return b""


def _name(line: str) -> str:
    return WaitedOn(lambda: line, _no_peer).look()


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, str]]:
    """A socket, and the address of its peer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with socket.create_connection((host, port)) as client:
            yield client, f"{host}:{port}"


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    with (tmp_path / "data").open("w") as file:
        assert _name(_line(_READ, file.fileno())) == f"file {tmp_path / 'data'}"


def test_a_pipe_has_no_name() -> None:
    reader, writer = os.pipe()
    assert _name(_line(_READ, reader)) == "pipe"
    os.close(reader)
    os.close(writer)


def test_a_socket_is_named_by_its_peer(connected: tuple[socket.socket, str]) -> None:
    client, peer = connected
    twin = compiled_twin("stalls._watchdog").Watchdog(None, 1, 1, 1, 1)
    line = _line(_READ, client.fileno())
    assert WaitedOn(lambda: line, twin.peer).look() == f"socket to {peer}"
    assert _name(line) == "socket"


def test_sockets_of_all_families_have_addresses() -> None:
    with socket.socket() as unconnected:
        line = _line(_READ, unconnected.fileno())
        for data, name in (
            (struct.pack("=H", socket.AF_UNIX) + b"/run/db.sock\0", "socket to /run/db.sock"),
            (struct.pack("=H", socket.AF_UNIX) + b"\0abstract", "socket to @abstract"),
            (
                struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16xI", 5432, 0, 0),
                "socket to [::]:5432",
            ),
            (struct.pack("=H", socket.AF_NETLINK) + bytes(10), "socket"),
        ):
            assert WaitedOn(lambda: line, lambda _, data=data: data).look() == name  # type: ignore[misc]


def test_the_descriptors_of_a_poll_are_named(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (tmp_path / "data").open("w") as file:
        polled = ctypes.create_string_buffer(
            struct.pack("=ihhihh", reader, 1, 0, file.fileno(), 1, 0)
        )
        address = ctypes.addressof(polled)
        assert _name(_line(_POLL, address, 1)) == "pipe"
        assert _name(_line(_POLL, address, 2)) == f"pipe, file {tmp_path / 'data'}"
        assert _name(_line(_POLL, address, 1000)) == ""
        assert _name(_line(_POLL, 1, 1)) == ""  # not mapped
    os.close(reader)
    os.close(writer)


def test_a_thread_in_a_call_is_named_by_what_it_waits_on() -> None:
    module = compiled_twin("stalls._watchdog")
    reader, writer = os.pipe()
    watchdogs: list[Any] = []

    def run() -> None:
        watchdogs.append(module.Watchdog(object(), 1, 1, 1, 1))
        os.read(reader, 1)

    thread = threading.Thread(target=run)
    thread.start()
    found, until_s = "", time.monotonic() + _LIMIT_S
    while found != "pipe" and time.monotonic() < until_s:
        time.sleep(0.001)
        found = WaitedOn(watchdogs[0].waited_call, _no_peer).look() if watchdogs else ""
    os.write(writer, b"x")
    thread.join()
    os.close(reader)
    os.close(writer)
    assert found == "pipe"


def test_a_child_process_is_named_if_it_is_a_certain_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        comm = Path(f"/proc/{child.pid}/comm").read_text().strip()
        assert _name(_line(_WAIT4, child.pid)) == f"process {child.pid} ({comm})"
        assert _name(_line(_WAIT4, (1 << 32) - 1)) == ""
        child.communicate(b"\n")


def test_what_has_no_name_or_has_changed_is_not_named() -> None:
    assert _name("running") == ""
    assert _name("") == ""
    assert _name(_line(_FUTEX, 1)) == ""
    assert _name(_line(_EPOLL_WAIT, 1)) == ""
    assert _name(_line(_READ, 1 << 20)) == ""
    reader, writer = os.pipe()
    lines = iter([_line(_READ, reader), _line(_READ, writer)])
    assert WaitedOn(lambda: next(lines), _no_peer).look() == ""
    os.close(reader)
    os.close(writer)
