"""Finds out what a directory or a process records, what it does not record, and why."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.audit import published, unpublished
from aqltelemetry.errors import MonitoringDirectoryError, OptionError
from aqltelemetry.journal.inventory import WriterInfo, host_path, mapped_headers, take_inventory
from aqltelemetry.journal.location import (
    UnsuitableLocationError,
    all_roots,
    file_system,
    find_journal_root,
)
from aqltelemetry.quantities import ago, counted, processes
from aqltelemetry.reading.listing import list_published, summary
from aqltelemetry.runtime.assembly import check_directory
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.settings import Settings, settings
from aqltelemetry.sinks.file_names import parse
from aqltelemetry.stalls.visibility import limits
from aqltelemetry.system.clock import NS_PER_S, epoch_ns
from aqltelemetry.system.extensions import has_interpreter_lock, in_use

_MIB = 1 << 20
_MIN_FREE_BYTES = 64 * _MIB
_MAX_LISTED = 20
EXTRAS = {
    "uvloop": "a faster event loop; needed under gevent and eventlet",
    "yappi": "profiles of threads and coroutines",
    "pandas": "reading into pandas",
    "rich": "the report",
}


class Finding(NamedTuple):
    """The result of one check; `is_fault` is True if it impairs the recording."""

    matter: str
    text: str
    is_fault: bool = False


def examine(directory: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings about a monitoring directory, with the options in `environ`."""
    try:
        chosen = settings(directory, environ=environ)
    except OptionError as exc:
        yield Finding("options", str(exc), is_fault=True)
        return
    yield _directory(chosen.directory)
    if not os.path.isdir(chosen.directory):
        return
    yield from _journal(chosen, directory)
    if ControlFiles(chosen.directory).is_off():
        command = f"aqltelemetry on {shlex.quote(directory)}"
        yield Finding("switch", f"off; switch it on with: {command}", is_fault=True)
    else:
        yield Finding("switch", "on")
    yield _published(chosen.directory)
    if not_read := list_published(chosen.directory).not_read:
        is_fault = any(each.is_lost for each in not_read)
        yield Finding("files", summary(not_read), is_fault=is_fault)


def examine_process(pid: int, proc: Path = Path("/proc")) -> Iterator[Finding]:
    """Yield the findings about a process and the directory that it records into.

    Raises FileNotFoundError if there is no such process, PermissionError if it belongs to
    another user.
    """
    place = proc / str(pid)
    command = _texts(place / "cmdline")
    environ = dict(text.split("=", 1) for text in _texts(place / "environ") if "=" in text)
    yield Finding("process", f"{pid}: {' '.join(command) or 'a zombie or a kernel thread'}")
    headers = list(mapped_headers(pid, proc))
    if headers:
        latest = max(headers, key=lambda header: header.created_ns)
        yield Finding("recording", f"as writer {latest.writer}, into {latest.directory}")
        yield from examine(str(host_path(pid, latest.directory, proc)), environ)
        return
    if not _is_python(place):
        yield Finding("recording", "none: it is not a Python process", is_fault=True)
        return
    yield Finding("recording", _why_not(environ), is_fault=True)
    directory = environ.get("AQLTELEMETRY_DIR", "_monitoring")
    yield from examine(os.path.join(os.readlink(place / "cwd"), directory), environ)


def examine_environment() -> Iterator[Finding]:
    """Yield which Python this is, and which optional packages it has."""
    yield Finding("python", f"{sys.version.split()[0]}, {sys.executable}")
    yield Finding("hot path", in_use(), is_fault=not has_interpreter_lock())
    missing = "; ".join(limits())
    yield Finding("stalls", missing or "the watchdog of with_stalls sees all causes")
    for package, what in EXTRAS.items():
        state = "installed" if find_spec(package) else "not installed"
        yield Finding(package, f"{state}: {what}")
    if find_spec("aiohttp"):
        yield from _aiohttp()


def _aiohttp() -> Iterator[Finding]:
    try:
        from aqltelemetry.hosts.aiohttp.private import version_note  # noqa: PLC0415 - it may not be installed

        note = version_note()
    except Exception as exc:  # noqa: BLE001 - an import of aiohttp may raise anything
        note = f"can't be imported: {exc}"
    if note:
        yield Finding("aiohttp", note)


def _directory(directory: str) -> Finding:
    if not os.path.isdir(directory):
        what = "is a file" if os.path.exists(directory) else "does not exist"
        text = f"{directory} {what}; nothing was recorded there"
        return Finding("directory", text, is_fault=True)
    try:
        check_directory(directory)
    except MonitoringDirectoryError as exc:
        return Finding("directory", str(exc), is_fault=True)
    free_bytes = shutil.disk_usage(directory).free
    return Finding(
        "directory",
        f"{directory}, {free_bytes / _MIB:,.0f} MiB free",
        is_fault=free_bytes < _MIN_FREE_BYTES,
    )


def _journal(chosen: Settings, directory: str) -> Iterator[Finding]:
    # The owner of the recordings may be another user than this process.
    uid = os.stat(chosen.directory).st_uid
    try:
        root = find_journal_root(chosen.directory, chosen.journal_dir, uid)
        yield Finding("journal", f"{root} on {file_system(root) or 'an unknown file system'}")
    except UnsuitableLocationError as exc:
        yield Finding(
            "journal",
            f"in memory only: {exc}; a killed process loses its unpublished observations",
            is_fault=True,
        )
    try:
        roots = all_roots(chosen.directory, chosen.journal_dir, uid=uid)
        found = take_inventory(roots, uid)
        left = unpublished.count_in(roots)
    except OSError as exc:
        yield Finding("writers", f"the journal can't be read: {exc}", is_fault=True)
        return
    alive = [each for each in found.writers if each.is_alive]
    for each in alive[:_MAX_LISTED]:
        yield Finding("recording", _resident(each))
    if len(alive) > _MAX_LISTED:
        yield Finding("recording", f"and {processes(len(alive) - _MAX_LISTED)} more")
    if not alive:
        yield Finding("recording", "no process records now")
    if text := unpublished.describe(left, directory):
        is_fault = bool(left.of_killed) and not alive
        yield Finding("unpublished", f"{text}, in the journal", is_fault=is_fault)
    if found.damaged:
        yield Finding("damaged", f"{counted(found.damaged, 'segment')} set aside", is_fault=True)


def _resident(each: WriterInfo) -> str:
    held = f"{counted(each.segments, 'segment')}, {each.size_bytes / _MIB:,.1f} MiB"
    return f"process {each.pid or 'that has just started'}, writer {each.writer}: {held}"


def _published(directory: str) -> Finding:
    names = published.names(directory)
    if not names:
        return Finding("published", "no file yet; the first appears a minute after a start")
    newest = max(found.to_ns for name in names if (found := parse(name)))
    age_s = max(epoch_ns() - newest, 0) / NS_PER_S
    return Finding("published", f"{counted(len(names), 'file')}, the newest {ago(age_s)}")


def _is_python(place: Path) -> bool:
    program = os.path.basename(os.readlink(place / "exe"))
    return "python" in program or "libpython" in (place / "maps").read_text(errors="replace")


def _why_not(environ: Mapping[str, str]) -> str:
    if "AQLTELEMETRY_RUN" not in environ:
        return (
            "none: not started by `aqltelemetry run`, and its program has not started a "
            "recording, or one in memory only; failures are in its log (logger aqltelemetry)"
        )
    return (
        "none: it serves no known framework, has served no request yet, only starts other "
        "processes, or lacks aqltelemetry; failures are in its log (logger aqltelemetry)"
    )


def _texts(path: Path) -> list[str]:
    return [os.fsdecode(text) for text in path.read_bytes().split(b"\0") if text]
