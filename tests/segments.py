"""Recordings of several processes in many published files, with accounts, as a sink writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import (
    ACCOUNT,
    CSV_HEADER,
    Batch,
    Column,
    Dropped,
    Kind,
    SegmentAccount,
    SegmentId,
    Series,
)
from aqltelemetry.sinks.account import AccountBuilder
from aqltelemetry.sinks.csv_rows import Block, format_batch, joined
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS

S = 1_000_000_000
HOUR_NS = 3600 * S
BEGIN_NS = EPOCH_NS - EPOCH_NS % HOUR_NS
LABELS = ("/a [GET]", "/b/{id} [POST]", "/b/{id} [POST] 5xx", 'job "é", 1')


def record(
    directory: Path,
    *,
    processes: int = 2,
    segments: int = 6,
    rows: int = 20,
    every_ns: int = 60 * S,
    begin_ns: int = BEGIN_NS,
    seed: int = 0,
) -> Path:
    """Write a file of each prefix for each segment of each process; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(processes):
        chance = np.random.default_rng([seed, number])
        writer, pid = f"{seed * 1000 + number + 1:016x}", 100 + number % 7
        before = 0
        for segment in range(1, segments + 1):
            first_ns = begin_ns + (segment - 1) * every_ns
            columns = _columns(chance, first_ns, every_ns, rows)
            accepted = sum(len(column.values) for column in columns)
            account = SegmentAccount(
                accepted=accepted,
                before=before,
                dropped=[Dropped("full", segment, first_ns + 5)] if segment % 2 else [],
                is_last=segment == segments,
                in_order=number % 2 == 0,
                at_ns=first_ns + every_ns - 1,
            )
            before += accepted
            _publish_segment(directory, SegmentId(writer, segment), pid, columns, account)
    return directory


def _columns(chance: np.random.Generator, first_ns: int, span_ns: int, rows: int) -> list[Column]:
    found = []
    for label in LABELS:
        times = first_ns + np.sort(chance.integers(0, span_ns, rows))
        lengths = chance.lognormal(16, 1, rows).astype(np.int64)
        series = Series("duration", label, Kind.NANOSECONDS)
        found.append(Column(series, times.tolist(), lengths.tolist()))
    values = chance.choice([1.5, float("nan"), 3e12, 0.1 + 0.2, -0.0], rows)
    times = first_ns + np.sort(chance.integers(0, span_ns, rows))
    for prefix, label in (("runtime", "rss"), ("custom", "length")):
        series = Series(prefix, label, Kind.FLOAT)
        found.append(Column(series, times.tolist(), values.tolist()))
    return found


def _publish_segment(
    directory: Path,
    segment: SegmentId,
    pid: int,
    columns: Sequence[Column],
    account: SegmentAccount,
) -> None:
    texts = format_batch(Batch(segment, pid, 16 << 20, columns, account=account))
    accounts = AccountBuilder()
    accounts.add(account, texts)
    block = accounts.block(pid, Counter(list(texts)), 0)
    assert block is not None
    for prefix, blocks in {**texts, ACCOUNT: [block]}.items():
        _publish(directory, segment, pid, prefix, blocks)


def _publish(
    directory: Path, segment: SegmentId, pid: int, prefix: str, blocks: Sequence[Block]
) -> None:
    span = enclosing(min(each.from_ns for each in blocks), max(each.to_ns for each in blocks))
    writer, number = segment.writer, segment.sequence
    name = FileName(prefix, *span, pid, writer, number, number, 0)
    (directory / str(name)).write_bytes(CSV_HEADER + b"".join(joined(blocks)))


def observations(db: TelemetryDB) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows by prefix, sorted, with the bits of each value."""
    return {prefix: rows_of(db, prefix) for prefix in [*db.prefixes(), ACCOUNT]}


def rows_of(db: TelemetryDB, prefix: str) -> list[tuple[object, ...]]:
    """Return all rows of a prefix, sorted."""
    rows = db.rows(prefix, missing_ok=True)
    columns = [
        rows.timepoints_ns.tolist(),
        np.ascontiguousarray(rows.measurements).view(np.int64).tolist(),
        [rows.labels[code] for code in rows.label_codes.tolist()],
        [rows.processes[code] for code in rows.process_codes.tolist()],
    ]
    return sorted(zip(*columns, strict=True))


def tables(db: TelemetryDB) -> list[pd.DataFrame]:
    """Return the tables of a recording."""
    return [
        db.summary(),
        db.summary(by=("label", "pid"), every="1m"),
        db.workers(),
        db.writers(),
        db.values(),
        db.dropped().to_frame(),
        db.timeline(every="1m"),
    ]
