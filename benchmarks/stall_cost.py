"""Measures what watching an event loop for stalls costs, in processor time and wake-ups.

    python benchmarks/stall_cost.py --seconds 60 --write

A process runs an event loop for some seconds: idle, with a callback every 100 ms as the sampler of
the event loop has one, and as a busy service whose handlers take 0.2 ms. It does so with the
watchdog and without, in turn. The processor time is that of `/proc/self/task/*/schedstat`, in
percent of one processor; a wake-up is a voluntary context switch of a thread, each second.

What requests cost is measured within one process, which handles as many as it can over sockets to
itself, in blocks of about 0.2 s: without the watchdog, with it, and with one that looks ten times
as often, in random order. The change is that of the processor time of all threads for a request,
and of requests per second. The mean over all rounds is geometric, with its standard error: the
arithmetic mean of ratios of two times that vary by 10 % is 1 % too high. The change is smaller than
what a machine varies by. Ten times as many looks show it: *a tenth of it* is what the usual number
of looks costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from math import log
from statistics import mean, median, stdev
from time import gmtime, strftime
from typing import Any

from _document import RELIABILITY, put, table
from _machine import describe

from aqltelemetry.stalls import watch
from aqltelemetry.stalls.sampler import StallSampler

_LOOPS = ("asyncio", "uvloop")
_STATES = ("idle", "ticking", "busy")
_THRESHOLD_S = 0.05
_TICK_S = 0.1
_STEP_S = 0.0002
_CLIENTS = 16
_REQUESTS = 400
_OFTEN = 10
_TICK_NS = watch.TICK_NS
_REST_S = 0.05
_RATIO_COLUMNS = ("", "rounds", "", "processor time for a request, %", "requests per second, %")
_COLUMNS = (
    *("", "CPU bare, %", "CPU watched, %", "of it native, %", "of it probe, %"),
    *("wake-ups of the native thread /s", "of the loop's, bare /s", "watched /s"),
    "stalls recorded",
)


def _threads() -> Iterator[tuple[int, int, int]]:
    """Yield each thread with its processor time in ns and its voluntary switches."""
    for name in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{name}/schedstat", encoding="ascii") as file:
            cpu_ns = int(file.read().split()[0])
        with open(f"/proc/self/task/{name}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        yield int(name), cpu_ns, int(fields["voluntary_ctxt_switches"])


async def _service(state: str, seconds: float) -> int:
    """Run in a state for some seconds; return the number of steps."""
    until_s = time.monotonic() + seconds
    steps = 0
    if state == "idle":
        await asyncio.sleep(seconds)
    while time.monotonic() < until_s:
        if state == "ticking":
            await asyncio.sleep(_TICK_S)
        else:
            step_until_s = time.perf_counter() + _STEP_S
            while time.perf_counter() < step_until_s:
                pass
            await asyncio.sleep(0)
        steps += 1
    return steps


async def _run(state: str, seconds: float, is_watched: bool) -> dict[str, Any]:
    stalls: list[float] = []
    sampler = StallSampler(_THRESHOLD_S)
    if is_watched:
        sampler.attach(lambda _label, value: stalls.append(value))
    await asyncio.sleep(1)
    stalls.clear()
    before = {tid: (cpu, switches) for tid, cpu, switches in _threads()}
    steps = await _service(state, seconds)
    used = {
        tid: ((cpu - before[tid][0]) / seconds / 1e7, (switches - before[tid][1]) / seconds)
        for tid, cpu, switches in _threads()
        if tid in before
    }
    loop = used.pop(os.getpid())
    # The probe's thread is the one that hardly wakes up.
    others = sorted(used.values(), key=lambda each: each[1])
    sampler.detach()
    return {
        "cpu": loop[0] + sum(cpu for cpu, _ in others),
        "wakeups": loop[1],
        "native": others[-1] if others else (0.0, 0.0),
        "probe": others[0] if others else (0.0, 0.0),
        "steps": steps,
        "stalls": len(stalls),
    }


def _on_loop(loop: str, work: Coroutine[Any, Any, Any]) -> Any:
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - only one of the runs needs it

        return uvloop.run(work)
    return asyncio.run(work)


def _measure(loop: str, state: str, seconds: float, is_watched: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", loop, state, "yes" if is_watched else "no"]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _rows(seconds: float, pairs: int) -> Iterator[list[str]]:
    for loop in _LOOPS:
        for state in _STATES:
            measured: Mapping[bool, list[dict[str, Any]]] = {False: [], True: []}
            for _ in range(pairs):
                for is_watched in (False, True):
                    measured[is_watched].append(_measure(loop, state, seconds, is_watched))
            bare, watched = measured[False], measured[True]
            yield [
                f"{loop}, {state}",
                f"{median(each['cpu'] for each in bare):.2f}",
                f"{median(each['cpu'] for each in watched):.2f}",
                f"{median(each['native'][0] for each in watched):.2f}",
                f"{median(each['probe'][0] for each in watched):.3f}",
                f"{median(each['native'][1] for each in watched):.0f}",
                f"{median(each['wakeups'] for each in bare):.0f}",
                f"{median(each['wakeups'] for each in watched):.0f}",
                f"{sum(each['stalls'] for each in watched)}",
            ]


class _Echo(asyncio.Protocol):
    """Answers each request with JSON."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        number = json.loads(data)["number"]
        body = json.dumps({"number": number, "squares": [each * each for each in range(50)]})
        self._transport.write(body.encode())


class _Client(asyncio.Protocol):
    """Sends requests, each after the answer to the one before."""

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, requests: int) -> asyncio.Future[None]:
        self.left = requests
        self.done = asyncio.get_running_loop().create_future()
        self._next()
        return self.done

    def _next(self) -> None:
        self.left -= 1
        self._transport.write(b'{"number": %d}' % self.left)

    def data_received(self, data: bytes) -> None:
        del data
        if self.left:
            self._next()
        elif self.done is not None:
            self.done.set_result(None)


async def _connected(clients: int) -> list[_Client]:
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(clients):
        one, other = socket.socketpair()
        await loop.create_connection(_Echo, sock=one)
        _, client = await loop.create_connection(_Client, sock=other)
        found.append(client)
    return found


async def _block(clients: Sequence[_Client], often: int) -> tuple[float, float]:
    """Return the processor time and the time that a block of requests takes.

    The watchdog looks `often` times as often as usual; not at all if that is 0.
    """
    sampler = StallSampler(_THRESHOLD_S)
    if often:
        watch.TICK_NS = _TICK_NS // often
        sampler.attach(lambda _label, _value: None)
    await asyncio.sleep(_REST_S)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client.send(_REQUESTS) for client in clients))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    sampler.detach()
    await asyncio.sleep(_REST_S)
    return cpu_s, wall_s


async def _changes(rounds: int) -> list[tuple[list[float], list[float]]]:
    """Return the changes in percent of processor time and rate: watched, and looked at often."""
    clients = await _connected(_CLIENTS)
    found: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    await _block(clients, 1)
    for _ in range(rounds):
        order = [0, 1, _OFTEN]
        random.shuffle(order)
        took = {often: await _block(clients, often) for often in order}
        for often, (cpu, rate) in zip((1, _OFTEN), found, strict=True):
            cpu.append(log(took[often][0] / took[0][0]) * 100)
            rate.append(log(took[0][1] / took[often][1]) * 100)
    return found


def _request_rows(rounds: int) -> Iterator[list[str]]:
    for loop in _LOOPS:
        command = [sys.executable, __file__, "--changes", loop, "--request-rounds", str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        watched, often = json.loads(done.stdout)
        for name, changes, of in (
            ("watched", watched, 1),
            (f"looked at {_OFTEN} times as often", often, 1),
            ("a tenth of it", often, _OFTEN),
        ):
            yield [loop, f"{rounds}", name, *(_change(each, of) for each in changes)]


def _change(changes: Sequence[float], of: int) -> str:
    """Return the mean of changes with its standard error, each divided by a number."""
    error = stdev(changes) / len(changes) ** 0.5
    middle, error = mean(changes) / of, error / of
    return f"{middle:+.2f} +- {error:.2f} (median {median(changes) / of:+.2f})"


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--request-rounds", type=int, default=200, help="blocks of requests")
    parser.add_argument("--only-requests", action="store_true", help="only what requests cost")
    parser.add_argument("--write", action="store_true", help="write the tables into the docs")
    parser.add_argument("--changes", help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        loop, state, watched = arguments.run
        work = _run(state, arguments.seconds, watched == "yes")
        sys.stdout.write(json.dumps(_on_loop(loop, work)))
        return
    if arguments.changes:
        changes = _changes(arguments.request_rounds)
        sys.stdout.write(json.dumps(_on_loop(arguments.changes, changes)))
        return
    tables = {
        "stall cost": (_COLUMNS, _rows(arguments.seconds, arguments.pairs)),
        "stall cost of requests": (_RATIO_COLUMNS, _request_rows(arguments.request_rounds)),
    }
    for name, (columns, rows) in tables.items():
        if arguments.only_requests and columns is not _RATIO_COLUMNS:
            continue
        found = []
        for row in rows:
            found.append(row)
            sys.stdout.write(" | ".join(row) + "\n")
            sys.stdout.flush()
        if arguments.write:
            when = f"{'; '.join(describe())}; {strftime('%-d %B %Y', gmtime())}."
            put(RELIABILITY, name, f"{when}\n\n{table(columns, found)}")


if __name__ == "__main__":
    main()
