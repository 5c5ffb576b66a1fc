"""Examines roll-ups: each must count every row of its files once, and none of another's files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.system import syscalls

_PREFIX = "rollup."


@dataclass(slots=True)
class RolledUp:
    """What roll-ups cover: `rows` of `csv_files` are in `files` roll-ups; `problems` with them."""

    files: int = 0
    csv_files: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def rolled_up(directories: Sequence[Path]) -> RolledUp:
    """Examine the roll-ups in some directories.

    Raises:
        OSError: A directory can't be read.
        MissingExtraError: There are roll-ups, and pyarrow is not installed.
    """
    found = RolledUp()
    names = [name for each in directories for name in syscalls.list_directory(each)]
    if not any(name.startswith(_PREFIX) for name in names):
        return found
    try:
        from aqltelemetry.reading.rollups import files  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("pyarrow", exc) from exc
    owners: dict[str, str] = {}
    for name, path in sorted(files.find([os.fspath(each) for each in directories]).items()):
        try:
            files.check(path)
            members = files.read_members(path)
        except FileNotFoundError:
            if os.path.islink(path):
                found.problems.append(f"{name}: the file that it links to is missing")
            continue
        except OSError as exc:
            found.problems.append(f"{name}: {str(exc).removeprefix(f'{path}: ')}")
            continue
        found.files += 1
        for member in members:
            other = owners.setdefault(str(member.name), name)
            if other != name:
                found.problems.append(f"{member.name} is in {other} and in {name}")
            found.csv_files += 1
            found.rows += member.rows
    return found
