"""Counts the stalls that are recorded of a service that has none.

    python benchmarks/false_stalls.py --minutes 10 --write

A service records itself, stalls included. It is quiet, or handles 4,000 requests a second: each
takes 20 us of processor time, and one in 1,000 between 1 and 15 ms; a client sends them from
another process. The service notes each step of its event loop itself, every 20 ms or less. A stall
that is recorded is *confirmed* if the service noted no step for 40 ms during it: the loop stood
still, as by a lack of processors. Without that it is *false*. The quiet services of both loops
run at the same time, the busy ones one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from time import gmtime, strftime
from typing import Any

from _document import RELIABILITY, put, table
from _machine import describe

from aqltelemetry import Monitor, time_block
from aqltelemetry.sinks import stall_details

_LOOPS = ("asyncio", "uvloop")
_STATES = ("quiet", "busy")
_PER_S = 4_000
_CONNECTIONS = 16
_SHORT_US = 20
_LONG_US = (1_000, 15_000)
_ONE_IN = 1_000
_STEP_S = 0.02
_STILL_NS = 40_000_000
_AROUND_NS = 60_000_000
_LINE_BYTES = 6
_COLUMNS = (
    *("", "minutes", "requests/s", "longest handler, ms", "longest time between steps, ms"),
    *("stalls recorded", "of them false", "causes of the others"),
)


class _Steps:
    """When the event loop made a step, by the clock of the epoch, in nanoseconds."""

    def __init__(self) -> None:
        self.at_ns = array("q")
        self.requests = 0
        self.longest_ns = 0

    def note(self) -> None:
        self.at_ns.append(time.time_ns())

    def longest_gap_ns(self, begin_ns: int, end_ns: int) -> int:
        """Return the longest time without a step between two times, and just around them."""
        first = max(bisect_left(self.at_ns, begin_ns - _AROUND_NS) - 1, 0)
        last = bisect_left(self.at_ns, end_ns + _AROUND_NS) + 1
        near = self.at_ns[first:last]
        return max((b - a for a, b in pairwise(near)), default=0)


class _Protocol(asyncio.Protocol):
    """Each line is a request: the microseconds of processor time that it takes."""

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % _LINE_BYTES
        for at in range(0, whole, _LINE_BYTES):
            self._handle(int(data[at : at + _LINE_BYTES]))
        self._rest = data[whole:]

    def _handle(self, work_us: int) -> None:
        self._steps.note()
        self._steps.requests += 1
        begin_ns = time.perf_counter_ns()
        with time_block("request"):
            until_ns = time.thread_time_ns() + work_us * 1000
            while time.thread_time_ns() < until_ns:
                pass
        took_ns = time.perf_counter_ns() - begin_ns
        self._steps.longest_ns = max(self._steps.longest_ns, took_ns)
        self._steps.note()


async def _serve(state: str, seconds: float, folder: str, threshold_s: float) -> dict[str, Any]:
    steps = _Steps()
    loop = asyncio.get_running_loop()

    def step() -> None:
        steps.note()
        loop.call_later(_STEP_S, step)

    async with Monitor(folder, with_stalls=True, stall_threshold_s=threshold_s):
        await asyncio.sleep(1)
        step()
        server = await loop.create_server(lambda: _Protocol(steps), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = None
        if state == "busy":
            command = [sys.executable, __file__, "--send", str(port), "--seconds", str(seconds)]
            client = await asyncio.create_subprocess_exec(*command)
        began_ns = time.time_ns()
        await asyncio.sleep(seconds)
        ended_ns = time.time_ns()
        if client is not None:
            await client.wait()
        server.close()
    stalls = [
        each
        for each in stall_details.read([folder], with_unpublished=True)
        if began_ns < each["begin_ns"] < ended_ns
    ]
    return _judged(steps, stalls, (ended_ns - began_ns) / 1e9)


def _judged(steps: _Steps, stalls: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    causes: Counter[str] = Counter()
    false = []
    for each in stalls:
        if steps.longest_gap_ns(each["begin_ns"], each["end_ns"]) < _STILL_NS:
            false.append(each)
        else:
            causes[each["cause"]] += 1
    gap_ns = max((b - a for a, b in pairwise(steps.at_ns)), default=0)
    return {
        "seconds": seconds,
        "per_s": steps.requests / seconds,
        "handler_ms": steps.longest_ns / 1e6,
        "gap_ms": gap_ns / 1e6,
        "stalls": len(stalls),
        "false": false,
        "causes": dict(causes),
    }


def _send(port: int, seconds: float) -> None:
    """Send requests at their rate, however long the answers take."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(_CONNECTIONS)]
    chance = random.Random(1)
    begin_s = time.monotonic()
    sent = 0
    while (elapsed_s := time.monotonic() - begin_s) < seconds:
        due = int(elapsed_s * _PER_S)
        for number in range(sent, due):
            is_long = chance.randrange(_ONE_IN) == 0
            work_us = chance.randint(*_LONG_US) if is_long else _SHORT_US
            connections[number % _CONNECTIONS].sendall(b"%5d\n" % work_us)
        sent = due
        time.sleep(0.001)


def _measure(loop: str, state: str, seconds: float, threshold_s: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", loop, state, "--seconds", str(seconds)]
    command += ["--threshold-s", str(threshold_s)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--folder", folder], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _found(arguments: argparse.Namespace, state: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what was found of each loop; quiet services run at the same time."""
    loops = arguments.loops or _LOOPS
    measure = partial(
        _measure,
        state=state,
        seconds=arguments.minutes * 60,
        threshold_s=arguments.threshold_s,
    )
    with ThreadPoolExecutor(len(loops) if state == "quiet" else 1) as pool:
        yield from zip(loops, pool.map(measure, loops), strict=True)


def _row(loop: str, state: str, found: Mapping[str, Any]) -> list[str]:
    return [
        f"{loop}, {state}",
        f"{found['seconds'] / 60:.1f}",
        f"{found['per_s']:,.0f}",
        f"{found['handler_ms']:.1f}",
        f"{found['gap_ms']:.1f}",
        f"{found['stalls']}",
        f"{len(found['false'])}",
        ", ".join(f"{count} {cause}" for cause, count in found["causes"].items()) or "none",
    ]


def main() -> None:
    """Print what was recorded of each service."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--loops", action="append", choices=_LOOPS, help="default: both")
    parser.add_argument("--states", action="append", choices=_STATES, help="default: both")
    parser.add_argument("--threshold-s", type=float, default=0.05)
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        _send(arguments.send, arguments.seconds)
        return
    if arguments.run:
        loop, state = arguments.run
        work = _serve(state, arguments.seconds, arguments.folder, arguments.threshold_s)
        if loop == "uvloop":
            import uvloop  # noqa: PLC0415 - only one of the runs needs it

            found = uvloop.run(work)
        else:
            found = asyncio.run(work)
        sys.stdout.write(json.dumps(found))
        return
    rows = []
    for state in arguments.states or _STATES:
        for loop, found in _found(arguments, state):
            rows.append(_row(loop, state, found))
            sys.stdout.write(" | ".join(rows[-1]) + "\n")
            for each in found["false"]:
                sys.stdout.write(f"false: {json.dumps(each)}\n")
            sys.stdout.flush()
    if arguments.write:
        when = f"{'; '.join(describe())}; {strftime('%-d %B %Y', gmtime())}."
        put(RELIABILITY, "false stalls", f"{when}\n\n{table(_COLUMNS, rows)}")


if __name__ == "__main__":
    main()
