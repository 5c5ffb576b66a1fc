"""Plants the same stalls under several tools, and counts which of them each tool names.

    python benchmarks/stall_peers.py --repetitions 5 --write

Contenders, each as its documentation says: aqltelemetry with `with_stalls`; aiocop, which wraps the
callbacks of the loop and samples its thread every 10 ms; asyncio's debug mode with a
`slow_callback_duration` of 50 ms; and `py-spy dump`, called from outside 80 ms after the begin of a
stall, as by somebody who knows when to look. Each kind of stall is planted in a task.

- seen: a stall of more than 50 ms was reported; py-spy: the dump shows a stack
- class: it was called a wait or work on the processor, and rightly so
- cause: its cause was named as one of those of aqltelemetry
- line: of the kinds that a line of Python blocks, it is that line, or it is on the stack that is
  shown innermost for the user's code

The cost is the processor time of the whole process for each step of an event loop, of callbacks and
of tasks, the median over rounds of random order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import gmtime, strftime
from typing import Any

from _document import RELIABILITY, put, table
from _machine import describe
from _planted_stalls import PLANTS, Plant

from aqltelemetry.stalls import causes
from aqltelemetry.stalls.sampler import StallSampler

_LOOPS = ("asyncio", "uvloop")
_CONTENDERS = ("aqltelemetry", "aiocop", "debug mode", "py-spy dump")
_THRESHOLD_S = 0.05
_DUMP_AFTER_S = 0.08
_REST_S = 0.25
_STEPS = 200_000
_ROUNDS = 5
_FILE = str(Path(__file__).with_name("_planted_stalls.py"))
_NOT_PLANTED = ("throttled", "stopped by a signal", "starved by others")
_CPU = {causes.PYTHON, causes.NATIVE, causes.LOCK_HELD, causes.GARBAGE}
_WAITS = {causes.WAIT, causes.IO, causes.BLOCKS_WITH_LOCK, causes.PAGE_FAULTS}

Report = Mapping[str, Any]
"""What a contender says of a stall: `begin_s`, `class`, `cause`, `lines`."""


class _Kept:
    """Keeps what aqltelemetry finds, as a report."""

    def __init__(self, reports: list[Report]) -> None:
        self._reports = reports

    def add(self, detail: Mapping[str, Any]) -> None:
        user = detail["user"] or {}
        cause = detail["cause"]
        self._reports.append(
            {
                "length_s": detail["length_s"],
                "class": "cpu" if cause in _CPU else "wait" if cause in _WAITS else "",
                "cause": cause,
                "lines": [user.get("line")] if user.get("file") == _FILE else [],
            }
        )

    async def tend(self) -> None:
        pass

    def abandon_in_child(self) -> None:
        pass


def _watch(reports: list[Report]) -> None:
    StallSampler(_THRESHOLD_S, _Kept(reports)).attach(lambda _label, _value: None)


def _aiocop(reports: list[Report]) -> None:
    aiocop: Any = import_module("aiocop")

    def on_slow_task(event: Any) -> None:
        if not event.exceeded_threshold:
            return
        is_io = event.reason == "io_blocking"
        seen = event.blocking_events if is_io else event.cpu_stack_samples
        if not is_io:
            seen = sorted(seen, key=lambda each: -each["count"])[:1]
        lines = [line for each in seen for line in _lines(str(each["entry_point"]))]
        reports.append(
            {
                "length_s": event.elapsed_ms / 1000,
                "class": "wait" if is_io else "cpu",
                "cause": "",
                "lines": lines or [line for each in seen for line in _lines(each["trace"])],
            }
        )

    aiocop.patch_audit_functions()
    aiocop.start_blocking_io_detection(trace_depth=20)
    aiocop.detect_slow_tasks(threshold_ms=_THRESHOLD_S * 1000, on_slow_task=on_slow_task)
    aiocop.activate()


class _Handler(logging.Handler):
    """Takes the messages of asyncio's debug mode."""

    def __init__(self, reports: list[Report]) -> None:
        super().__init__()
        self._reports = reports

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        took = re.search(r"took ([0-9.]+) seconds", text)
        if took:
            found = {"length_s": float(took[1]), "class": "", "cause": "", "lines": _lines(text)}
            self._reports.append(found)


def _debug(reports: list[Report]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = _THRESHOLD_S
    logging.getLogger("asyncio").addHandler(_Handler(reports))
    logging.getLogger("asyncio").propagate = False


_START: Mapping[str, Callable[[list[Report]], None]] = {
    "bare": lambda _: None,
    "aqltelemetry": _watch,
    "aiocop": _aiocop,
    "debug mode": _debug,
    "py-spy dump": lambda _: None,
}


def _lines(text: str) -> list[int]:
    """Return the numbers of the lines of the planted stalls in a text."""
    found = re.findall(rf"{re.escape(Path(_FILE).name)}[:\"',a-z ]*?(\d+)", text)
    return [int(each) for each in found]


async def _plant(plant: Plant) -> None:
    found = plant.block()
    if asyncio.iscoroutine(found):
        await found


async def _run(contender: str, names: Sequence[str], repetitions: int) -> None:
    """Plant stalls; with py-spy, say on the standard output when each begins."""
    reports: list[Report] = []
    for name in names:
        await _plant(PLANTS[name])  # calibrates
    _START[contender](reports)
    await asyncio.sleep(_REST_S)
    for name in names:
        for _ in range(repetitions):
            await asyncio.sleep(_REST_S)
            reports.clear()
            sys.stdout.write(json.dumps({"begins": name}) + "\n")
            sys.stdout.flush()
            await asyncio.create_task(_plant(PLANTS[name]), name=name)
            await asyncio.sleep(_REST_S)
            longest = max(reports, key=lambda each: each["length_s"], default=None)
            sys.stdout.write(json.dumps({"kind": name, "report": longest}) + "\n")
            sys.stdout.flush()


def _dump(pid: int) -> Report:
    """Return what `py-spy dump` shows of the main thread."""
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--pid", str(pid)]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    threads = re.split(r"\n(?=Thread )", text)
    main = next((each for each in threads if '"MainThread"' in each), "")
    is_idle = "(idle)" in main.split("\n")[0]
    own = [line for line in main.split("\n")[1:] if "_planted_stalls.py" in line]
    return {
        "length_s": 1.0 if main.count("\n") > 1 else 0.0,
        "class": "wait" if is_idle else "cpu",
        "cause": "",
        "lines": [int(each) for line in own[:1] for each in re.findall(r"\.py:(\d+)", line)],
    }


def measure(contender: str, loop: str, names: Sequence[str], repetitions: int) -> Iterator[Any]:
    """Yield the kind of each stall and what the contender reports of it."""
    command = [sys.executable, __file__, "--run", contender, loop, ",".join(names)]
    command += ["--repetitions", str(repetitions)]
    with (
        tempfile.TemporaryDirectory(dir=".") as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as child,
    ):
        report: Report | None = None
        for text in child.stdout or ():
            line = json.loads(text)
            if "begins" in line and contender == "py-spy dump":
                time.sleep(_DUMP_AFTER_S)
                report = _dump(child.pid)
            elif "kind" in line:
                yield line["kind"], report if contender == "py-spy dump" else line["report"]


def judged(plant: Plant, report: Report | None) -> dict[str, bool | None]:
    """Return which parts of a stall a report names; None where there is no line to name."""
    is_seen = report is not None and report["length_s"] >= _THRESHOLD_S
    said = report if report is not None and is_seen else {"class": "", "cause": "", "lines": []}
    planted = "cpu" if plant.right & _CPU else "wait" if plant.right & _WAITS else None
    return {
        "seen": is_seen,
        "class": None if planted is None else said["class"] == planted,
        "cause": said["cause"] in plant.right,
        "line": any(line in plant.lines for line in said["lines"]) if plant.lines else None,
    }


def _cells(found: Sequence[Mapping[str, bool | None]]) -> Iterator[str]:
    for name in ("seen", "class", "cause", "line"):
        known = [each[name] for each in found if each[name] is not None]
        yield f"{sum(map(bool, known))} of {len(known)}"


async def _steps(contender: str, kind: str) -> float:
    """Return the processor time of a step in microseconds."""
    _START[contender]([])
    await asyncio.sleep(_REST_S)
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = _STEPS

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    before = time.process_time()
    if kind == "callbacks":
        loop.call_soon(step)
        await done
    else:
        for _ in range(_STEPS):
            await asyncio.sleep(0)
    return (time.process_time() - before) / _STEPS * 1e6


def _costs(rounds: int) -> Iterator[tuple[str, list[str]]]:
    """Yield a row for each contender: microseconds a step, of each loop and kind of step."""
    kinds = [(loop, kind) for loop in _LOOPS for kind in ("callbacks", "tasks")]
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    contenders = ["bare", *_CONTENDERS[:-1]]
    for _ in range(rounds):
        runs = [(contender, *each) for contender in contenders for each in kinds]
        random.shuffle(runs)
        for contender, loop, kind in runs:
            command = [sys.executable, __file__, "--steps", contender, loop, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[contender, loop, kind].append(float(done.stdout))
    for contender in contenders:
        cells = []
        for each in kinds:
            bare, own = (median(found[name, *each]) for name in ("bare", contender))
            added = "" if contender == "bare" else f" ({own - bare:+.2f})"
            cells.append(f"{own:.2f}{added}")
        yield contender, cells


def _on_loop(loop: str, work: Any) -> Any:
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - only one of the loops needs it

        return uvloop.run(work)
    return asyncio.run(work)


def _measure_all(arguments: argparse.Namespace) -> list[list[str]]:
    names = arguments.kinds or [each for each in PLANTS if each not in _NOT_PLANTED]
    rows = []
    for loop in arguments.loops or _LOOPS:
        for contender in arguments.contenders or _CONTENDERS:
            found = []
            for kind, report in measure(contender, loop, names, arguments.repetitions):
                verdict = judged(PLANTS[kind], report)
                found.append(verdict)
                if arguments.details:
                    sys.stdout.write(f"  {contender}, {loop}, {kind}: {verdict} {report}\n")
            rows.append([f"{contender}, {loop}", *_cells(found)])
            sys.stdout.write(" | ".join(rows[-1]) + "\n")
            sys.stdout.flush()
    return rows


def main() -> None:
    """Print what each contender names, and what each costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", action="append", choices=[*PLANTS], help="default: most")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="of the costs")
    parser.add_argument("--loops", action="append", choices=_LOOPS, help="default: both")
    parser.add_argument("--contenders", action="append", choices=_CONTENDERS, help="default: all")
    parser.add_argument("--details", action="store_true", help="print each report")
    parser.add_argument("--write", action="store_true", help="write the tables into the docs")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--steps", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        contender, loop, names = arguments.run
        _on_loop(loop, _run(contender, names.split(","), arguments.repetitions))
        os._exit(0)  # a contender may keep the process
    if arguments.steps:
        contender, loop, kind = arguments.steps
        sys.stdout.write(str(_on_loop(loop, _steps(contender, kind))))
        sys.stdout.flush()
        os._exit(0)
    rows = _measure_all(arguments)
    costs = [[name, *cells] for name, cells in _costs(arguments.rounds)]
    for row in costs:
        sys.stdout.write(" | ".join(row) + "\n")
    if arguments.write:
        versions = ", ".join(f"{name} {version(name)}" for name in ("aiocop", "py-spy"))
        when = f"{versions}; {'; '.join(describe())}; {strftime('%-d %B %Y', gmtime())}."
        names = ["", "seen", "class", "cause", "line"]
        kinds = [f"{loop}, {kind}" for loop in _LOOPS for kind in ("callbacks", "tasks")]
        cost = f"Processor time of a step, us:\n\n{table(['', *kinds], costs)}"
        put(RELIABILITY, "stall peers", f"{when}\n\n{table(names, rows)}\n{cost}")


if __name__ == "__main__":
    main()
