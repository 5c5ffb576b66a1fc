"""Published files for the tests of destinations, and what is in them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from hashlib import blake2s
from pathlib import Path

from aqltelemetry.observation import CSV_HEADER, quote_field
from aqltelemetry.shipping.destination import Shipment, ShippedFile
from aqltelemetry.sinks.file_names import FileName, enclosing

START_NS = 1_795_489_012_671_577_403
_WRITER = 0xA0B1C2D3E4F50000
Row = tuple[int, str, str, int]
"""Timepoint, measurement as it is written, label, PID."""
LABELS = (
    "/a [GET]",
    "/a [GET] 5xx",
    "/a [GET] ttfb",
    "query",
    "query failed",
    "\\N",
    " é, ü\"'",
    "",
)


def publish(
    directory: Path,
    number: int,
    rows: int | Sequence[Row] = 100,
    *,
    prefix: str = "duration",
    start_ns: int = START_NS,
    labels: Sequence[str] = LABELS,
) -> ShippedFile:
    """Write a file as a recording does; `number` makes its writer and its values."""
    if isinstance(rows, int):
        rows = [
            (
                start_ns + number * 10**9 + at * 1_000_003,
                f"0.{(number * 7919 + at * 104_729) % 10**9:09d}",
                labels[at % len(labels)],
                4000 + number,
            )
            for at in range(rows)
        ]
    times = [row[0] for row in rows]
    name = FileName(
        prefix,
        *enclosing(min(times), max(times)),
        4000 + number,
        f"{_WRITER + number:016x}",
        *(number + 1, number + 1, 0),
    )
    lines = (f"{at},{value},{quote_field(label)},{pid}\n" for at, value, label, pid in rows)
    path = directory / str(name)
    path.write_bytes(CSV_HEADER + "".join(lines).encode())
    return ShippedFile(str(name), str(path))


def rows_of(files: Iterable[ShippedFile]) -> list[tuple[int, float, str, int, str]]:
    """Return the rows of files in order: time, value, label, PID, writer."""
    found = []
    for file in files:
        writer = file.name.split("-")[-3].split(".")[0]
        with Path(file.path).open(newline="") as lines:
            for at, value, label, pid in list(csv.reader(lines))[1:]:
                found.append((int(at), float(value), label, int(pid), writer))
    return sorted(found)


def shipment(files: Sequence[ShippedFile], prefix: str = "duration") -> Shipment:
    """Return a shipment of files, with the identity that a shipper gives it."""
    names = "\n".join(file.name for file in files).encode()
    return Shipment(blake2s(names, digest_size=16).hexdigest(), prefix, files)
