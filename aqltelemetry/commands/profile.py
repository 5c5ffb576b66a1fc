"""`aqltelemetry profile`: profiles a running process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from aqltelemetry.commands.options import (
    existing,
    no_access,
    no_process,
    takes_directory,
)
from aqltelemetry.errors import TelemetryError
from aqltelemetry.journal.format import Header
from aqltelemetry.journal.inventory import host_path, mapped_headers, take_inventory
from aqltelemetry.journal.location import all_roots
from aqltelemetry.quantities import processes
from aqltelemetry.runtime.control_files import (
    MAX_PROFILE_S,
    PSTATS,
    SPEEDSCOPE,
    ControlFiles,
    ProfileResult,
)
from aqltelemetry.settings import settings
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns, pause

_POLL_S = 0.1
_GRACE_S = 15.0


@click.command()
@takes_directory
@click.option(
    "--pid",
    metavar="N",
    type=click.IntRange(1),
    help="Process to profile.  [default: the only one that records into DIR]",
)
@click.option(
    "--seconds",
    metavar="S",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, MAX_PROFILE_S, min_open=True),
    help="Duration of the profile.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice((PSTATS, SPEEDSCOPE)),
    default=PSTATS,
    show_default=True,
    help="Format of the file.",
)
def profile(directory: str | None, pid: int | None, seconds: float, form: str) -> None:
    """Profile a running process that records.

    If several processes record into DIR, choose one with --pid. The profile is
    written to its monitoring directory as profiler.<PID>.data, which
    `python -m pstats` reads; later ones as profiler.<PID>.2.data and so on. The
    profiler is yappi if the process has it (the extra aqltelemetry[profiler]):
    it covers all threads and coroutines. Otherwise it is cProfile, which covers
    the event loop's thread. The process is much slower during that time.

    With --format speedscope the file is profiler.<PID>.speedscope.json, a flame
    graph to open at https://www.speedscope.app. For it, the stacks of all threads
    are sampled every 5 ms, which costs little.
    """
    if pid is None:
        pid = _only_process(existing(directory))
    header = recording_of(pid)
    place = str(host_path(pid, header.directory))
    if directory is not None and not _is_same(directory, place):
        raise click.ClickException(f"process {pid} records into {place}, not into {directory}")
    controls = ControlFiles(place)
    token = os.urandom(8).hex()
    try:
        controls.request_profile(header.writer, seconds, form, token)
    except FileExistsError as exc:
        raise click.ClickException(f"process {pid} is being profiled already") from exc
    except OSError as exc:
        raise click.ClickException(f"{header.directory}: {exc.strerror}") from exc
    try:
        answer = _wait(lambda: controls.profile_result(header.writer, token), pid, seconds)
    finally:
        controls.cancel_profile(header.writer, token)
    if answer.error:
        raise click.ClickException(f"process {pid}: {answer.error}")
    how = "https://www.speedscope.app" if form == SPEEDSCOPE else f"python -m pstats {answer.path}"
    click.echo(f"{answer.path}: {how}")


def _only_process(directory: Path) -> int:
    """Return the PID of the only process that records into a directory."""
    try:
        chosen = settings(directory)
        uid = os.stat(directory).st_uid
        roots = all_roots(chosen.directory, chosen.journal_dir, uid=uid)
        found = {
            each.pid for each in take_inventory(roots, uid).writers if each.is_alive and each.pid
        }
    except (TelemetryError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    if not found:
        raise click.ClickException(f"no process records into {directory}")
    if len(found) > 1:
        pids = ", ".join(map(str, sorted(found)))
        rule = f"choose one of them with --pid: {pids}"
        raise click.UsageError(f"{processes(len(found))} record into {directory}: {rule}")
    return found.pop()


def _is_same(directory: str, other: str) -> bool:
    try:
        return os.path.samefile(directory, other)
    except OSError:
        return False


def recording_of(pid: int) -> Header:
    """Return the header of a segment that a process records into, or raise why there is none."""
    try:
        headers = [header for header in mapped_headers(pid) if header.pid in _names_of(pid)]
    except (FileNotFoundError, ProcessLookupError):
        raise no_process(pid) from None
    except PermissionError:
        raise no_access(pid) from None
    if not headers:
        raise click.ClickException(
            f"process {pid} does not record, or only in memory: aqltelemetry doctor --pid {pid}"
        )
    return max(headers, key=lambda header: header.created_ns)


def _names_of(pid: int) -> set[int]:
    """Return the PID of a process in each of its namespaces, to recognise its own segments.

    A forked child may still map segments of its parent.
    """
    for line in Path(f"/proc/{pid}/status").read_bytes().split(b"\n"):
        if line.startswith(b"NSpid:"):
            return {int(name) for name in line.split()[1:]}
    return {pid}


def _wait(answered: Callable[[], ProfileResult | None], pid: int, seconds: float) -> ProfileResult:
    started_ns = monotonic_ns()
    shown_s = 0
    with click.progressbar(length=round(seconds) or 1, label=f"profiling {pid}") as bar:
        while (passed_s := (monotonic_ns() - started_ns) / NS_PER_S) < seconds + _GRACE_S:
            answer = answered()
            if answer is not None:
                return answer
            bar.update(min(int(passed_s), round(seconds)) - shown_s)
            shown_s = min(int(passed_s), round(seconds))
            if not os.path.exists(f"/proc/{pid}"):
                return ProfileResult(error="it ended in the meantime")
            pause(_POLL_S)
    return ProfileResult(
        error=f"no answer within {_GRACE_S:g} s of the end: is its event loop blocked, or was "
        "it forked without a monitor of its own?"
    )
