"""Reads the details of stalls from their files, each published file once."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from sys import intern
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.reading.csv_frames import Wanted
from aqltelemetry.sinks import file_names, stall_details
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

_Json: TypeAlias = Mapping[str, Any]
NO_NUMBERS: Mapping[str, float] = {}
_NAN = float("nan")


class StallKey(NamedTuple):
    """What the row and the details of a stall have in common."""

    pid: int
    writer: str
    cause: str
    length_ns: int

    @classmethod
    def of(cls, pid: int, writer: str, cause: str, length_s: float) -> StallKey:
        """Return the key of a stall with this length in seconds."""
        is_length = math.isfinite(length_s)
        return cls(pid, writer, cause, round(length_s * NS_PER_S) if is_length else -1)


class Details(NamedTuple):
    """What is known of a stall; docs/reference/formats.md describes each field."""

    begin_ns: int
    end_ns: int
    file: str = ""
    line: int = 0
    function: str = ""
    votes: float = _NAN
    is_exact: bool = False
    innermost: str = ""
    looks: int = 0
    steps: int = 0
    waits_for: str = ""
    thread: str = ""
    request: str = ""
    in_thread: str = ""
    route: str = ""
    blocks: Sequence[str] = ()
    waits_on: str = ""
    thread_line: str = ""
    is_ended: bool = True
    earliest_ns: int = 0
    gc_generation: float = _NAN
    major_faults: int = 0
    task: str = ""
    coroutine: str = ""
    cpu_s: float = _NAN
    run_delay_s: float = _NAN
    shares: Mapping[str, float] = NO_NUMBERS
    callbacks: Mapping[str, float] = NO_NUMBERS


class StallDetails:
    """The details in some directories; `version` grows when something new was read.

    Published files never change, so that each is read once. Those that are being written are
    read again if they have grown.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories
        self._files: dict[str, tuple[int, Sequence[tuple[StallKey, Details]]]] = {}
        self.version = 0

    def refresh(self, wanted: Wanted) -> None:
        """Read what is new, of files whose names do not lie outside the wanted time."""
        found = dict(self._present(wanted))
        if found.keys() != self._files.keys():
            self.version += 1
        known, self._files = self._files, {}
        for path, size in found.items():
            if path in known and size in (None, known[path][0]):
                self._files[path] = known[path]
                continue
            self.version += 1
            with suppress(OSError), open(path, "rb") as file:  # it may vanish
                data = file.read()
                self._files[path] = len(data), [*_parsed(data)]

    def by_key(self) -> Mapping[StallKey, list[Details]]:
        """Return all details by what they have in common with the rows of stalls."""
        found: dict[StallKey, list[Details]] = defaultdict(list)
        for path in sorted(self._files):
            for key, details in self._files[path][1]:
                found[key].append(details)
        return found

    def _present(self, wanted: Wanted) -> Iterator[tuple[str, int | None]]:
        """Yield the paths of files, and the sizes of those that are being written."""
        seen: set[str] = set()  # archives in another directory have copies there
        for directory in self._directories:
            names = [each for each in syscalls.list_directory(directory) if _is_of_details(each)]
            published = [name for name in names if name not in seen and stall_details.parse(name)]
            seen.update(published)
            for name in wanted.files(published):
                yield os.path.join(directory, name), None
            for name in filter(file_names.is_temporary, names):
                path = os.path.join(directory, name)
                with suppress(OSError):
                    yield path, os.stat(path).st_size


def _is_of_details(name: str) -> bool:
    return name.startswith(f"{stall_details.PREFIX}.")


def _parsed(data: bytes) -> Iterator[tuple[StallKey, Details]]:
    for line in stall_details.parse_lines(data):
        with suppress(TypeError, ValueError, AttributeError):  # of another version
            key = StallKey.of(line["pid"], line["writer"], line["cause"], line["length_s"])
            yield key._replace(writer=intern(key.writer), cause=intern(key.cause)), _details(line)


def _details(line: _Json) -> Details:
    user, innermost = line.get("user") or {}, line.get("innermost") or {}
    return Details(
        begin_ns=int(line["begin_ns"]),
        end_ns=int(line["end_ns"]),
        file=_text(user, "file"),
        line=int(user.get("line") or 0),
        function=_text(user, "function"),
        votes=_number(user, "votes"),
        is_exact=bool(line.get("is_exact")),
        innermost=_place(innermost),
        looks=int(line.get("looks") or 0),
        steps=int(line.get("steps") or 0),
        waits_for=_text(line, "waits_for"),
        thread=_text(line, "thread"),
        request=_text(line, "request"),
        in_thread=_text(line, "in_thread") or ("?" if line.get("request") else ""),
        route=_text(line, "route"),
        blocks=tuple(intern(str(label)) for label in line.get("blocks") or ()),
        waits_on=_text(line, "waits_on"),
        thread_line=_place(line.get("thread_line") or {}),
        is_ended=bool(line.get("is_ended", True)),
        earliest_ns=int(line.get("earliest_ns") or 0),
        gc_generation=_number(line, "gc_generation"),
        major_faults=int(line.get("major_faults") or 0),
        task=_text(line, "task"),
        coroutine=_text(line, "coroutine"),
        cpu_s=_number(line, "cpu_s"),
        run_delay_s=_number(line, "run_delay_s"),
        shares=_numbers(line, "shares"),
        callbacks=_numbers(line, "callbacks"),
    )


def _place(frame: _Json) -> str:
    if not frame.get("file"):
        return ""
    return intern(f"{frame['file']}:{frame.get('line', 0)} in {frame.get('function', '')}")


def _text(values: _Json, name: str) -> str:
    return intern(str(values.get(name) or ""))


def _number(values: _Json, name: str) -> float:
    value = values.get(name)
    return _NAN if value is None else float(value)


def _numbers(values: _Json, name: str) -> Mapping[str, float]:
    return {intern(str(key)): value for key, value in (values.get(name) or {}).items()}
