"""Ways to block an event loop, each with the causes that are right for it.

The lines that block end with `# here`. Each takes about `LENGTH_S` seconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import inspect
import json
import mmap
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from aqltelemetry.stalls import causes

LENGTH_S = 0.25
_PAGE = mmap.PAGESIZE
_CPU = min(os.sched_getaffinity(0))
GROUPS = "/sys/fs/cgroup/cpu"
"""Where groups of version 1 are made."""


class Plant(NamedTuple):
    """A stall: its name, the causes that are right, and the function that blocks the loop.

    `lines` are the numbers of the lines that block; empty if no line of Python does, or if it
    runs on another thread.
    """

    name: str
    right: frozenset[str]
    block: Callable[[], object]
    lines: tuple[int, ...]


PLANTS: dict[str, Plant] = {}
_Block = Callable[[], object]


def plant(*right: str) -> Callable[[_Block], _Block]:
    """Register a function that blocks the event loop; what it returns is awaited."""

    def register(block: _Block) -> _Block:
        name = block.__name__.replace("_", " ")
        lines, first = inspect.getsourcelines(block)
        marked = (first + at for at, line in enumerate(lines) if line.rstrip().endswith("# here"))
        PLANTS[name] = Plant(name, frozenset(right), block, tuple(marked))
        return block

    return register


@cache
def calibrated(work: Callable[[int], object], size: int) -> int:
    """Return the size of some work that takes about `LENGTH_S` seconds of processor time.

    Its second run is measured: the first one may have to prepare what it works on.
    """
    while True:
        work(size)
        before = time.thread_time()
        work(size)
        took_s = time.thread_time() - before
        if took_s > LENGTH_S / 8:
            return max(int(size * LENGTH_S / took_s), 1)
        size *= 2


def _squares(size: int) -> None:
    total = 0
    for number in range(size):
        total += number * number


@plant(causes.PYTHON)
def python_loop() -> None:
    total = 0
    for number in range(calibrated(_squares, 100_000)):  # here
        total += number * number  # here


def _texts(size: int) -> None:
    for number in range(size):
        str(number).upper().encode()


@plant(causes.PYTHON)
def small_calls_of_C() -> None:  # noqa: N802 - its name is shown
    for number in range(calibrated(_texts, 50_000)):  # here
        str(number).upper().encode()  # here


@cache
def _numbers(size: int) -> list[int]:
    return list(range(size))


def _dump(size: int) -> object:
    return json.dumps(_numbers(size))


@plant(causes.LOCK_HELD)
def json_dumps() -> None:
    numbers = _numbers(calibrated(_dump, 100_000))
    json.dumps(numbers)  # here


def _explode(size: int) -> object:
    return re.match(r"(a+)+$", "a" * size + "b")


@cache
def _exponent() -> int:
    size = 12
    while True:
        before = time.thread_time()
        _explode(size)
        if time.thread_time() - before > LENGTH_S / 2:
            return size
        size += 1


@plant(causes.LOCK_HELD)
def regular_expression() -> None:
    text = "a" * _exponent() + "b"
    re.match(r"(a+)+$", text)  # here


@cache
def _shuffled(size: int) -> list[int]:
    state, found = 1, []
    for _ in range(size):
        state = (state * 1103515245 + 12345) % 2**31
        found.append(state)
    return found


def _sort(size: int) -> object:
    return sorted(_shuffled(size))


@plant(causes.LOCK_HELD)
def sort() -> None:
    numbers = _shuffled(calibrated(_sort, 50_000))
    sorted(numbers)  # here


def _power(size: int) -> object:
    return pow(3, size)


@plant(causes.LOCK_HELD)
def large_integers() -> None:
    size = calibrated(_power, 100_000)
    pow(3, size)  # here


@cache
def _random(size: int) -> bytes:
    return os.urandom(size)


def _compress(size: int) -> object:
    return zlib.compress(_random(size))


@plant(causes.NATIVE)
def zlib_compress() -> None:
    data = _random(calibrated(_compress, 100_000))
    zlib.compress(data)  # here


def _digest(size: int) -> object:
    return hashlib.sha256(_random(size))


@plant(causes.NATIVE)
def sha256() -> None:
    data = _random(calibrated(_digest, 1_000_000))
    hashlib.sha256(data)  # here


_COUNT = (
    "with recursive n(i) as (select 1 union all select i+1 from n where i < ?) select max(i) from n"
)


@plant(causes.NATIVE)
def sqlite_query() -> None:
    database = sqlite3.connect(":memory:")
    size = calibrated(_count, 10_000)
    database.execute(_COUNT, (size,)).fetchall()  # here


def _count(size: int) -> object:
    return sqlite3.connect(":memory:").execute(_COUNT, (size,)).fetchall()


@plant(causes.WAIT)
def time_sleep() -> None:
    time.sleep(LENGTH_S)  # here


@plant(causes.WAIT)
def lock() -> None:
    taken = threading.Lock()
    taken.acquire()
    taken.acquire(timeout=LENGTH_S)  # here


@plant(causes.WAIT)
def thread_join() -> None:
    thread = threading.Thread(target=time.sleep, args=(LENGTH_S,))
    thread.start()
    thread.join()  # here


@plant(causes.IO)
def socket_receive() -> None:
    one, other = socket.socketpair()
    one.settimeout(LENGTH_S)
    try:
        one.recv(1)  # here
    except TimeoutError:
        one.close()
        other.close()


@plant(causes.IO)
def socket_receive_without_timeout() -> None:
    one, other = socket.socketpair()
    threading.Timer(LENGTH_S, other.send, (b"x",)).start()
    one.recv(1)  # here
    one.close()
    other.close()


@plant(causes.IO)
def full_pipe() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writing, True)
    threading.Timer(LENGTH_S, os.read, (reading, 1 << 20)).start()
    os.write(writing, bytes(4096))  # here
    os.close(reading)
    os.close(writing)


@plant(causes.WAIT, causes.IO)
def child_process() -> None:
    subprocess.run(["sleep", str(LENGTH_S)], check=True)  # here


@plant(causes.IO)
def fsync() -> object:
    async def prepared() -> None:
        with tempfile.NamedTemporaryFile(dir=".") as file:
            await asyncio.to_thread(file.write, _random(128 << 20))
            file.flush()
            os.fsync(file.fileno())

    return prepared()


@plant(causes.PAGE_FAULTS, causes.IO)
def cold_file_in_memory() -> object:
    async def prepared() -> None:
        with tempfile.NamedTemporaryFile(dir=".") as file:
            await asyncio.to_thread(file.write, _random(128 << 20))
            await asyncio.to_thread(os.fsync, file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with mmap.mmap(file.fileno(), 0) as mapped:
                mapped.madvise(mmap.MADV_RANDOM)
                until_s = time.monotonic() + LENGTH_S
                at = 0
                while time.monotonic() < until_s and at < len(mapped):
                    _ = mapped[at]
                    at += _PAGE

    return prepared()


@cache
def _garbage() -> list[list[int]]:
    return _lists(calibrated(_collect, 200_000))


@lru_cache(maxsize=1)
def _lists(size: int) -> list[list[int]]:
    return [[] for _ in range(size)]


def _collect(size: int) -> object:
    _lists(size)
    return gc.collect()


@plant(causes.GARBAGE)
def garbage_collection() -> None:
    kept = _garbage()
    gc.collect()  # here
    del kept


@plant(causes.LOCK_ELSEWHERE)
def threads_that_hog() -> None:
    until_s = time.monotonic() + LENGTH_S * 1.5

    def hog() -> None:
        while time.monotonic() < until_s:
            sum(range(100))

    for _ in range(8):
        threading.Thread(target=hog).start()
    while time.monotonic() < until_s:
        pass


def _in_thread(work: Callable[[], object]) -> object:
    async def run() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.sleep(0.001)
        while thread.is_alive():
            await asyncio.sleep(0.001)

    return run()


@plant(causes.LOCK_ELSEWHERE)
def another_thread_in_C() -> object:  # noqa: N802 - its name is shown
    text = "a" * _exponent() + "b"
    return _in_thread(lambda: re.match(r"(a+)+$", text))


@plant(causes.GARBAGE, causes.LOCK_ELSEWHERE)
def collection_on_another_thread() -> object:
    _garbage()
    return _in_thread(gc.collect)


@plant(causes.BLOCKS_WITH_LOCK)
def sleep_of_C_with_the_GIL() -> None:  # noqa: N802 - its name is shown
    ctypes.PyDLL(None).usleep(int(LENGTH_S * 1e6))  # here


@plant(causes.LOCK_ELSEWHERE)
def sleep_of_C_with_the_GIL_on_another_thread() -> object:  # noqa: N802 - as above
    return _in_thread(lambda: ctypes.PyDLL(None).usleep(int(LENGTH_S * 1e6)))


def _small() -> None:
    until_s = time.thread_time() + LENGTH_S / 3000
    while time.thread_time() < until_s:
        pass


@plant(causes.MANY_STEPS)
def small_callbacks() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(3000):
        loop.call_soon(_small)


@plant(causes.MANY_STEPS)
def small_tasks() -> object:
    async def small() -> None:
        _small()

    async def run() -> None:
        await asyncio.gather(*(small() for _ in range(3000)))

    return run()


class Group:
    """The control group of this process, of version 1, whose limit can be set; for `throttled`."""

    path: Path | None = None

    @classmethod
    def join(cls) -> None:
        """Move this process into a new group without an effective limit, if it may do that."""
        path = Path(GROUPS, f"planted-{os.getpid()}")
        with suppress(OSError):
            path.mkdir()
            cls.path = path
            cls.limit(100.0)
            (path / "cgroup.procs").write_text(str(os.getpid()))

    @classmethod
    def limit(cls, processors: float) -> None:
        """Set how many processors the group may use."""
        if cls.path is not None:
            (cls.path / "cpu.cfs_quota_us").write_text(str(int(processors * 100_000)))

    @classmethod
    def leave(cls) -> None:
        """Leave the group and remove it."""
        if cls.path is not None:
            Path(GROUPS, "cgroup.procs").write_text(str(os.getpid()))
            cls.path.rmdir()
            cls.path = None


@plant(causes.THROTTLED)
def throttled() -> None:
    """Use up a limit of a tenth of a processor."""
    Group.limit(0.1)
    try:
        _work(0.035)
    finally:
        Group.limit(100.0)


@plant(causes.SUSPENDED)
def stopped_by_a_signal() -> object:
    async def run() -> None:
        program = (
            f"import os, signal, time; time.sleep(0.05); os.kill({os.getpid()}, signal.SIGSTOP);"
            f"time.sleep({LENGTH_S}); os.kill({os.getpid()}, signal.SIGCONT)"
        )
        with subprocess.Popen([sys.executable, "-S", "-c", program]) as child:
            while child.poll() is None:
                await asyncio.sleep(0.01)

    return run()


class Others:
    """Processes that use one processor."""

    running: ClassVar[list[subprocess.Popen[bytes]]] = []

    @classmethod
    def start(cls) -> None:
        """Start them."""
        busy = f"import os; os.sched_setaffinity(0, [{_CPU}])\nwhile True: pass"
        command = [sys.executable, "-S", "-c", busy]
        cls.running += [subprocess.Popen(command) for _ in range(20)]

    @classmethod
    def end(cls) -> None:
        """End them."""
        for child in cls.running:
            child.kill()
            child.wait()
        cls.running.clear()


def starve() -> None:
    """Run on the processor that `Others` use."""
    tid = threading.get_native_id()
    cpus = os.sched_getaffinity(tid)
    os.sched_setaffinity(tid, {_CPU})
    try:
        _work(0.02)
    finally:
        os.sched_setaffinity(tid, cpus)


@plant(causes.STARVED)
def starved_by_others() -> object:
    """Run on one processor, while others use it."""

    async def run() -> None:
        Others.start()
        await asyncio.sleep(0.5)
        starve()
        await asyncio.sleep(0)
        await asyncio.to_thread(Others.end)

    return run()


def _work(cpu_s: float) -> None:
    until_s = time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        pass
