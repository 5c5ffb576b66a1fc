"""Ships files as Parquet, into a directory or an object store.

A shipment becomes one object for each day that it has rows of, under a name that follows from the
shipment alone: sent again, it replaces the same objects by equal ones. Each object lists the files
that are in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import numpy as np

from aqltelemetry.errors import DestinationError, MissingExtraError
from aqltelemetry.observation import DURATION
from aqltelemetry.reading.archives import encoding
from aqltelemetry.reading.csv_frames import read_rows
from aqltelemetry.reading.file_groups import GONE
from aqltelemetry.reading.rows import Rows
from aqltelemetry.shipping import labels
from aqltelemetry.shipping.destination import FileGone, Receipt, Shipment, ShippedFile, Unavailable
from aqltelemetry.shipping.target import Target
from aqltelemetry.sinks import file_names
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S

FILES = "aqltelemetry.files"
"""Metadata of an object: the names of the files of its shipment, as a JSON list."""
DAYS = "aqltelemetry.days"
"""Metadata of an object: the days of its shipment, each of which has an object."""
_NO_SERVICE = "__HIVE_DEFAULT_PARTITION__"
_NS_PER_DAY = 86_400 * NS_PER_S
_NAME = re.compile(r"(\d{8}T\d{12})-(\d{8}T\d{12})\.([0-9a-f]+)\.parquet", re.ASCII)
_T = TypeVar("_T")


def destination(target: Target) -> ParquetStore:
    """Return the destination of a `file:`, `s3:` or `gs:` URL."""
    try:
        from pyarrow import fs  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("pyarrow", exc) from exc
    return ParquetStore(target)


class _Object(NamedTuple):
    """The parts of an object's name: stamps as in the names of files, which sort by time."""

    since: str
    until: str
    id: str

    def __str__(self) -> str:
        return f"{self.since}-{self.until}.{self.id}.parquet"


class ParquetStore:
    """Objects of Parquet; see `aqltelemetry.shipping.destination.Destination`."""

    max_files = 1000
    max_bytes = 64 << 20

    def __init__(self, target: Target) -> None:
        self._target = target
        self._service = quote(target.origin.service, safe="") or _NO_SERVICE
        self._fs: Any = None
        self._root = ""

    async def open(self) -> None:
        """Connect; a directory is made if it is missing, a bucket is not."""
        await self._call(self._open)

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return which files the objects list; those of their days are looked through."""
        return await self._call(partial(self._shipped, names))

    async def ship(self, shipment: Shipment) -> Receipt:
        """Write the objects of a shipment, or write them again."""
        return await self._call(partial(self._ship, shipment))

    async def check(self, rows: Mapping[str, int]) -> Sequence[str]:
        """Compare the number of rows of each shipment of which all files are here."""
        return await self._call(partial(self._check, rows))

    async def close(self) -> None:
        """Disconnect."""
        self._fs = None

    async def _call(self, function: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(function)
        except OSError as exc:
            reason = str(exc).partition("\n")[0]
            if "ACCESS_DENIED" in reason or isinstance(exc, PermissionError):
                raise DestinationError(str(self._target), reason) from exc
            raise Unavailable(f"{self._target}: {reason}") from exc

    def _open(self) -> None:
        from pyarrow import ArrowInvalid, fs  # noqa: PLC0415 - an extra

        try:
            self._fs, self._root = fs.FileSystem.from_uri(self._target.url)
        except ArrowInvalid as exc:
            raise DestinationError(str(self._target), str(exc)) from exc
        if self._is_local:
            os.makedirs(self._root, exist_ok=True)
            return
        bucket = self._root.partition("/")[0]
        if self._fs.get_file_info(bucket).type == fs.FileType.NotFound:
            raise DestinationError(str(self._target), f"the bucket {bucket!r} does not exist")

    @property
    def _is_local(self) -> bool:
        return bool(self._fs.type_name == "local")

    def _directory(self, prefix: str, day: str) -> str:
        return f"{self._root}/{prefix}/day={day}/service={self._service}"

    def _ship(self, shipment: Shipment) -> Receipt:
        rows, refused = _rows(shipment)
        files = [file.name for file in shipment.files if file.name not in refused]
        by_day = _by_day(rows)
        metadata = {FILES: json.dumps(files), DAYS: json.dumps([*by_day])}
        name = _object_of(shipment)
        for day, part in by_day.items():
            self._write(f"{self._directory(shipment.prefix, day)}/{name}", part, shipment, metadata)
        return Receipt(len(rows), refused)

    def _write(self, path: str, rows: Rows, shipment: Shipment, metadata: dict[str, str]) -> None:
        pa = encoding.pyarrow()
        table = _table(rows, shipment.prefix, self._target)
        buffer = pa.BufferOutputStream()
        with encoding.open_writer(buffer, table.schema, metadata) as writer:
            encoding.write(writer, table)
        content = buffer.getvalue()
        if self._is_local:
            _write_at_once(path, content)
            return
        stream = self._fs.open_output_stream(path)
        stream.write(content)
        stream.close()

    def _shipped(self, names: Iterable[str]) -> frozenset[str]:
        wanted = {*names}
        listed = (files for files, _ in self._shipments(wanted).values())
        return frozenset(name for files in listed for name in wanted.intersection(files))

    def _check(self, rows: Mapping[str, int]) -> list[str]:
        differences = []
        for name, (files, there) in self._shipments(rows).items():
            here = sum(rows[file] for file in files if file in rows)
            if rows.keys() >= set(files) and here != there:
                differences.append(
                    f"the files of {name} have {here:,} rows here, and {there:,} there"
                )
        return differences

    def _shipments(self, names: Iterable[str]) -> dict[str, tuple[Sequence[str], int]]:
        """Return the files and rows of each complete shipment that may have some of the files."""
        wanted: dict[tuple[str, str], list[file_names.FileName]] = {}
        for name in names:
            found = file_names.parse(name)
            if found is not None:
                for day in _days_between(found.from_ns, found.to_ns):
                    wanted.setdefault((found.prefix, day), []).append(found)
        shipments: dict[str, tuple[Sequence[str], int]] = {}
        for (prefix, day), files in wanted.items():
            for each in self._objects(self._directory(prefix, day)):
                if str(each) not in shipments and any(_encloses(each, file) for file in files):
                    complete = self._complete(prefix, str(each), day)
                    if complete is not None:
                        shipments[str(each)] = complete
        return shipments

    def _complete(self, prefix: str, name: str, day: str) -> tuple[Sequence[str], int] | None:
        """Return the files and the rows of a shipment if it has an object for each of its days."""
        metadata, _ = self._footer(f"{self._directory(prefix, day)}/{name}")
        paths = [f"{self._directory(prefix, each)}/{name}" for each in json.loads(metadata[DAYS])]
        if not all(info.is_file for info in self._fs.get_file_info(paths)):
            return None
        return json.loads(metadata[FILES]), sum(self._footer(path)[1] for path in paths)

    def _footer(self, path: str) -> tuple[dict[str, str], int]:
        """Return the metadata of an object, and the number of its rows."""
        found = encoding.pyarrow().parquet.read_metadata(path, filesystem=self._fs)
        texts = {key.decode(): value.decode() for key, value in (found.metadata or {}).items()}
        return texts, int(found.num_rows)

    def _objects(self, directory: str) -> Iterator[_Object]:
        from pyarrow import fs  # noqa: PLC0415 - an extra

        for info in self._fs.get_file_info(fs.FileSelector(directory, allow_not_found=True)):
            found = _parse(info.base_name)
            if found is not None:
                yield found


def _rows(shipment: Shipment) -> tuple[Rows, dict[str, str]]:
    """Return the rows of a shipment, and the refused files with the reason; raises FileGone."""
    unnamed = {
        file.name: "its name is not that of a published file"
        for file in shipment.files
        if file_names.parse(file.name) is None
    }
    files = [file for file in shipment.files if file.name not in unnamed]
    rows, refused = _read(files)
    if shipment.prefix == DURATION and not _are_nanoseconds(rows):
        reason = "it has durations that are not whole nanoseconds"
        refused |= {file.name: reason for file in files if not _are_nanoseconds(_read([file])[0])}
        rows, _ = _read([file for file in files if file.name not in refused])
    return rows, {**unnamed, **refused}


def _read(files: Sequence[ShippedFile]) -> tuple[Rows, dict[str, str]]:
    names = {os.path.abspath(file.path): file.name for file in files}
    refused: dict[str, str] = {}

    def leave_out(path: str, reason: str) -> None:
        if reason == GONE:
            raise FileGone(names[path])
        refused[names[path]] = reason

    rows = read_rows("/", names, leave_out=leave_out)
    for path, name in names.items():
        # It is read only if it is there, and would not come back.
        if not os.path.exists(path):
            raise FileGone(name)
    return rows, refused


def _are_nanoseconds(rows: Rows) -> bool:
    values = rows.measurements
    return bool((np.rint(values * NS_PER_S) / NS_PER_S == values).all())


def _by_day(rows: Rows) -> dict[str, Rows]:
    """Return the rows of each day of UTC that has some."""
    days = rows.timepoints_ns // _NS_PER_DAY
    if not len(rows):
        return {}
    if days.min() == days.max():
        return {_day(int(days[0])): rows}
    return {_day(day): rows[days == day] for day in np.unique(days).tolist()}


def _table(rows: Rows, prefix: str, target: Target) -> Any:
    """Return rows as they are written, sorted by label and time, with the parts of labels."""
    pa = encoding.pyarrow()
    origin = target.origin
    table = encoding.table(
        encoding.in_order(rows),
        as_doubles=prefix != DURATION,
        constants={"host": origin.host, "instance": origin.instance},
    )
    if prefix != DURATION:
        return table
    table = table.drop_columns([encoding.VALUE])
    column = table[encoding.LABEL].combine_chunks()
    known = column.dictionary.to_pylist()
    parts = [labels.split(label, set(known)) for label in known]
    for field in ("route", "method", "status", "kind"):
        texts = [getattr(each, field) for each in parts]
        codes = pa.array(texts).dictionary_encode().take(column.indices)
        table = table.append_column(field, codes)
    return table


def _write_at_once(path: str, content: Any) -> None:
    """Write a file that appears when it is complete, and is on the disk then."""
    directory, _, name = path.rpartition("/")
    os.makedirs(directory, exist_ok=True)
    temporary = f"{directory}/.{name}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            syscalls.synchronise(file.fileno())
        syscalls.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            syscalls.unlink(temporary)
        raise
    _synchronise(directory)


def _synchronise(directory: str) -> None:
    fd = syscalls.open_file(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syscalls.synchronise(fd)
    finally:
        syscalls.close(fd)


def _object_of(shipment: Shipment) -> _Object:
    found = [file_names.parse(file.name) for file in shipment.files]
    named = [name for name in found if name is not None]
    since = min((name.from_ns for name in named), default=0)
    until = max((name.to_ns for name in named), default=0)
    return _Object(file_names.stamp(since), file_names.stamp(until), shipment.id)


def _parse(name: str) -> _Object | None:
    match = _NAME.fullmatch(name)
    return None if match is None else _Object(*match.groups())


def _encloses(each: _Object, file: file_names.FileName) -> bool:
    since, until = file_names.stamp(file.from_ns), file_names.stamp(file.to_ns)
    return each.since <= since and until <= each.until


def _day(number: int) -> str:
    return str(np.datetime64(number, "D"))


def _days_between(from_ns: int, to_ns: int) -> list[str]:
    """Return the days of `from_ns <= t < to_ns`."""
    return [
        _day(number) for number in range(from_ns // _NS_PER_DAY, (to_ns - 1) // _NS_PER_DAY + 1)
    ]
