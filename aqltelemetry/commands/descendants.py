"""Finds the Python processes below a command that were not recorded, and the reasons.

A process in which the start-up hook ran has written a note. Other processes are found in /proc
only: those that end between two looks, or whose parents ended before a look, are missed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.autostart.aqltelemetry_autostart import SERVERS, program_name

_PYTHON = re.compile(r"(python|pypy)[0-9.]*(t|d|-dbg)?$")
_MAX_SEEN = 10_000
_MAX_SHOWN = 5
_MAX_NAME = 40
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


class Process(NamedTuple):
    """A Python process: its command line, and whether it has the environment of the run.

    `kind` and `text` are from its last note; empty if it wrote none.
    """

    command: Sequence[str]
    has_environment: bool = True
    kind: str = ""
    text: str = ""


class Descendants:
    """The Python processes below a process, as `look` found them."""

    def __init__(self, variable: str, proc: Path = Path("/proc")) -> None:
        self.seen: dict[int, Process] = {}
        self._variable = f"{variable}=".encode()
        self._proc = proc

    def look(self, root: int) -> None:
        """Add the processes that exist now."""
        waiting = [root]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError):  # it has ended, or belongs to another user
                self._see(pid)
            with suppress(OSError):
                waiting += self._children(pid)

    def _children(self, pid: int) -> Iterator[int]:
        for thread in os.listdir(self._proc / str(pid) / "task"):
            with suppress(OSError):
                found = (self._proc / str(pid) / "task" / thread / "children").read_text()
                yield from map(int, found.split())

    def _see(self, pid: int) -> None:
        here = self._proc / str(pid)
        if not _PYTHON.match(os.path.basename(os.readlink(here / "exe"))):
            return
        text = (here / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
        command = text.split("\0")
        known = self.seen.get(pid)
        if (known is None or known.command != command) and len(self.seen) < _MAX_SEEN:
            environ = (here / "environ").read_bytes().split(b"\0")
            is_given = any(each.startswith(self._variable) for each in environ)
            self.seen[pid] = Process(command, is_given)


def with_notes(seen: Mapping[int, Process], notes: str) -> dict[int, Process]:
    """Return the processes that were seen and those that wrote notes, with their last note."""
    found = dict(seen)
    for line in notes.splitlines():
        pid, kind, text = [*line.split("\t", 2), "", ""][:3]
        if not pid.isdigit():
            continue
        if kind == "started":
            found[int(pid)] = Process(text.split(" "), kind=kind)
        else:
            before = found.get(int(pid), Process(("python",)))
            found[int(pid)] = before._replace(kind=kind, text=text)
    return found


def unrecorded(processes: Mapping[int, Process], recorded: Collection[int]) -> str:
    """Return a line about the processes that were not recorded, and why; empty if none."""
    by_reason: dict[tuple[str, str], list[int]] = {}
    for pid, process in sorted(processes.items()):
        is_recorded = pid in recorded or process.kind == "recorded"
        if not is_recorded and not _is_expected(process, any_recorded=bool(recorded)):
            by_reason.setdefault((_name(process.command), _reason(process)), []).append(pid)
    shown = [
        f"{name} ({', '.join(map(str, pids[:_MAX_SHOWN]))}{', ...' * (len(pids) > _MAX_SHOWN)})"
        f": {reason}"
        for (name, reason), pids in list(by_reason.items())[:_MAX_SHOWN]
    ]
    if not shown:
        return ""
    if (rest := len(by_reason) - len(shown)) > 0:
        shown.append(f"and {rest} more")
    count = sum(map(len, by_reason.values()))
    processes_were = "process was" if count == 1 else "processes were"
    return f"{count} Python {processes_were} not recorded: {'; '.join(shown)}"


def _is_expected(process: Process, *, any_recorded: bool) -> bool:
    """Return whether nobody expects a recording: the process only helps or starts others."""
    if any(helper in word for word in process.command for helper in _HELPERS):
        return True
    is_server = program_name(process.command) in SERVERS
    return is_server and any_recorded and process.kind in ("", "started")


def _reason(process: Process) -> str:
    if process.kind == "failed":
        return process.text
    flags = _flags(process.command)
    if process.kind == "started":
        is_server = program_name(process.command) in SERVERS
        return "served no request" if is_server else "serves no requests"
    if ignored := flags & {"I", "E"}:
        return f"ignores its environment (-{ignored.pop()})"
    if "S" in flags:
        return "starts without the module site (-S)"
    if not process.has_environment:
        return "was started in another environment"
    return "did not run the start-up hook"


def _flags(command: Sequence[str]) -> set[str]:
    flags: set[str] = set()
    for word in command[1:]:
        if not word.startswith("-") or word.startswith("--"):
            break
        letters = re.match(r"-([a-zA-Z]*)", word)
        before = re.split("[cmWX]", letters[1] if letters else "", maxsplit=1)[0]
        flags |= set(before)
        if before != (letters[1] if letters else ""):
            break
    return flags


def _name(command: Sequence[str]) -> str:
    words = list(command[1:])
    flags = _flags(command) & {"I", "E", "S"}
    if not flags:
        while words and words[0].startswith("-") and words[0] not in ("-m", "-c"):
            words.pop(0)
    if words and words[0] == "-m":
        words.pop(0)
    elif flags or not words or words[0] == "-c":
        words = [os.path.basename(command[0]), *words]
    else:
        words[0] = os.path.basename(words[0])
    text = " ".join(" ".join(words).split())
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 3]}..."
