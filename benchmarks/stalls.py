"""Blocks event loops in known ways, and counts which causes and lines the watchdog finds.

    python benchmarks/stalls.py --repetitions 20 --write

Each kind of stall is planted again and again, on asyncio, on uvloop and in requests of a Gunicorn
worker with threads, on a quiet machine and with a busy process for each processor. `right`: the
stall has the cause that was planted, or the cause `no CPU` if its thread waited for a processor for
more than half of it; `wrong`: another one; `unknown`: no cause could be concluded; `missed`: no
stall was recorded; `line`: of the stalls with the planted cause that a line of Python blocked,
those with that line. With `--write` the table goes into docs/reliability.md. With `--python` it is
that of other interpreters, on a quiet machine only; with `--journal-on-disk` it is that of a quiet
machine whose recording has its journal there, not in memory. Without it nothing else is recorded on
the event loops.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import gmtime, strftime
from typing import Any

from _document import RELIABILITY, put, table
from _machine import describe
from _planted_requests import planted
from _planted_stalls import PLANTS, Group, Plant

from aqltelemetry import Monitor
from aqltelemetry.stalls import causes, watchdog
from aqltelemetry.stalls.evidence import Evidence, LockWait, Look, Sample, Suspicion
from aqltelemetry.stalls.sampler import StallSampler
from aqltelemetry.system.extensions import choose

_THRESHOLD_S = 0.05
_REST_S = 0.15
_WAIT_S = 2.0
_LOOPS = ("asyncio", "uvloop", "gthread")
_STATES = {"quiet": "quiet", "busy": "all processors busy"}
_RESULTS = ("right", "wrong", "unknown", "missed")


class _Kept:
    """Keeps what the sampler finds."""

    def __init__(self) -> None:
        self.details: list[Mapping[str, Any]] = []
        self.evidence: list[Evidence] = []

    def add(self, detail: Mapping[str, Any]) -> None:
        self.details.append(detail)

    async def tend(self) -> None:
        pass

    def abandon_in_child(self) -> None:
        pass


async def _plant(kept: _Kept, plant: Plant) -> dict[str, Any]:
    kept.details.clear()
    kept.evidence.clear()
    before_ns = time.time_ns()
    found = plant.block()
    if asyncio.iscoroutine(found):
        await found
    await asyncio.sleep(_REST_S)
    until_s = time.monotonic() + _WAIT_S
    while not kept.details and time.monotonic() < until_s:  # noqa: ASYNC110 - another thread adds
        await asyncio.sleep(_REST_S)
    later = [each for each in kept.details if each["end_ns"] > before_ns]
    stall = max(later, key=lambda each: each["length_s"], default=None)
    return _judged(plant, stall)


def _judged(plant: Plant, stall: Mapping[str, Any] | None) -> dict[str, Any]:
    result: dict[str, Any] = {"kind": plant.name, "result": "missed", "line": None}
    if stall is not None:
        cause = stall["cause"]
        is_starved = (stall["run_delay_s"] or 0) > stall["length_s"] / 2
        is_right = cause in plant.right or (cause == causes.STARVED and is_starved)
        result["result"] = "right" if is_right else "unknown" if cause == "unknown" else "wrong"
        result |= {name: stall[name] for name in ("cause", "length_s", "shares", "looks", "steps")}
        result |= {"cpu_s": stall["cpu_s"], "delay_s": stall["run_delay_s"]}
        if is_right and plant.lines and cause in plant.right:
            user = stall["user"] or {}
            result["line"] = user.get("line") in plant.lines
            result["user"] = user
    return result


async def _run(names: Sequence[str], repetitions: int, evidence: str, pure: bool) -> None:
    kept = _Kept()
    sampler = StallSampler(_THRESHOLD_S, kept, (lambda _: watchdog) if pure else choose)
    sampler.on_evidence = kept.evidence.append
    Group.join()
    sampler.attach(lambda _label, _value: None)
    await asyncio.sleep(0.3)
    for name in names:
        if name == "throttled" and Group.path is None:
            continue
        await _plant(kept, PLANTS[name])  # calibrates
        for number in range(repetitions):
            result = await _plant(kept, PLANTS[name])
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
            if evidence:
                _store(Path(evidence), f"{name} {number}", kept, PLANTS[name], result)
    sampler.detach()
    Group.leave()


async def _run_recorded(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    recording = Monitor("recording", journal_dir="journal", with_stalls=False)
    async with recording if arguments.journal_on_disk else nullcontext():
        await _run(names, arguments.repetitions, arguments.evidence, arguments.pure)


def _run_requests(names: Sequence[str], repetitions: int, evidence: str) -> None:
    found = planted(names, repetitions, os.getcwd())
    for number, (plant, stall, seen) in enumerate(found):
        result = _judged(plant, stall)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        if evidence:
            kept = _Kept()
            kept.evidence = [as_evidence(each) for each in seen]
            _store(Path(evidence), f"{plant.name} request {number}", kept, plant, result)


def as_evidence(given: Sequence[Any]) -> Evidence:
    """Return evidence that was written as JSON."""
    suspicion, waits, looks, addresses, is_native = given[:5]
    quiet_ns, begin_ns, end_ns, before, samples, *rest = suspicion
    return Evidence(
        Suspicion(
            quiet_ns, begin_ns, end_ns, Sample(*before), [Sample(*each) for each in samples], *rest
        ),
        [LockWait(*each) for each in waits],
        [Look(*each) for each in looks],
        addresses and (addresses[0], addresses[1]),
        is_native,
    )


def _store(folder: Path, name: str, kept: _Kept, plant: Plant, result: dict[str, Any]) -> None:
    longest = max(kept.evidence, key=lambda each: each.suspicion.length_ns, default=None)
    if longest is not None:
        data = {"kind": plant.name, "right": sorted(plant.right), "evidence": longest}
        folder.mkdir(exist_ok=True)
        text = json.dumps(data | {"result": result["result"]}, default=dict)
        (folder / f"{name} {os.getpid()}.json").write_text(text)


def _child(arguments: argparse.Namespace) -> None:
    names = arguments.kinds or list(PLANTS)
    if arguments.run == "gthread":
        _run_requests(names, arguments.repetitions, arguments.evidence)
        return
    work = _run_recorded(arguments, names)
    if arguments.run == "uvloop":
        import uvloop  # noqa: PLC0415 - only one of the runs needs it

        uvloop.run(work)
    else:
        asyncio.run(work)


@contextmanager
def _busy(is_loaded: bool) -> Iterator[None]:
    count = os.cpu_count() or 1 if is_loaded else 0
    children = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)
    ]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def measure(
    arguments: argparse.Namespace, loop: str, is_loaded: bool, python: str = sys.executable
) -> list[dict[str, Any]]:
    """Return the results of all plants on a loop."""
    command = [python, __file__, "--run", loop]
    command += ["--repetitions", str(arguments.repetitions)]
    for name in arguments.kinds or ():
        command += ["--kinds", name]
    command += ["--evidence", os.path.abspath(arguments.evidence)] if arguments.evidence else []
    command += ["--pure"] if arguments.pure else []
    command += ["--journal-on-disk"] if arguments.journal_on_disk else []
    with _busy(is_loaded), tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        environment = dict(os.environ)
        if arguments.journal_on_disk:
            environment["AQLTELEMETRY_JOURNAL_DIR"] = f"{folder}/journal"
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.stderr.write(f"{loop}: the process ended with {done.returncode}\n")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _measured(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the results of each run by its name."""
    loops, loads = arguments.loops or _LOOPS, arguments.loads or tuple(_STATES)
    if arguments.python:
        return {
            f"CPython {_version(python)}, {loop}": measure(arguments, loop, False, python)
            for python in map(os.path.abspath, arguments.python)
            for loop in loops
        }
    if arguments.journal_on_disk:
        return {f"{loop}, journal on disk": measure(arguments, loop, False) for loop in loops}
    return {
        f"{loop}, {_STATES[load]}": measure(arguments, loop, load == "busy")
        for loop in loops
        for load in loads
    }


def _version(python: str) -> str:
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rows(results: Mapping[str, list[dict[str, Any]]]) -> Iterator[list[str]]:
    """Yield the rows of the table of all runs."""
    for name, found in results.items():
        counts = Counter(each["result"] for each in found)
        lines = [each["line"] for each in found if each["line"] is not None]
        cells = [
            f"{counts[result]} of {len(found)}" if result == "right" else str(counts[result])
            for result in _RESULTS
        ]
        yield [name, *cells, f"{sum(lines)} of {len(lines)}"]


def _print_kinds(results: Mapping[str, list[dict[str, Any]]]) -> None:
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for found in results.values():
        for each in found:
            by_kind[each["kind"]][each["result"]] += 1
            if each["result"] == "wrong":
                by_kind[each["kind"]]["as " + each["cause"]] += 1
            if each["line"] is False:
                by_kind[each["kind"]]["wrong line"] += 1
    for kind, counts in by_kind.items():
        shown = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        sys.stdout.write(f"{kind:45} {shown}\n")


def main() -> None:
    """Plant stalls and print what was found of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", action="append", choices=[*PLANTS], help="default: all")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--loops", action="append", choices=_LOOPS, help="default: all")
    parser.add_argument("--loads", action="append", choices=[*_STATES])
    parser.add_argument(
        "--python", action="append", help="another interpreter that has aqltelemetry; repeatable"
    )
    parser.add_argument(
        "--journal-on-disk", action="store_true", help="record, with the journal in --directory"
    )
    parser.add_argument("--directory", default=".", help="where files are written; on a disk")
    parser.add_argument("--evidence", default="", help="a folder to write the samples into")
    parser.add_argument("--pure", action="store_true", help="the watchdog in Python")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        _child(arguments)
        return
    results = _measured(arguments)
    _print_kinds(results)
    for row in rows(results):
        sys.stdout.write(" | ".join(row) + "\n")
    if arguments.write:
        columns = ["", *_RESULTS, "line"]
        when = f"{'; '.join(describe())}; {strftime('%-d %B %Y', gmtime())}."
        place = "stalls on other Pythons" if arguments.python else "stalls"
        place = "stalls with the journal on disk" if arguments.journal_on_disk else place
        put(RELIABILITY, place, f"{when}\n\n{table(columns, list(rows(results)))}")
    for found in results.values():
        for each in found:
            if each["result"] in {"wrong", "unknown"} or each["line"] is False:
                sys.stdout.write(json.dumps(each) + "\n")


if __name__ == "__main__":
    main()
