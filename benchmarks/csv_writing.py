"""How fast one core writes rows of CSV, compared with the standard library.

All contenders write the same million durations of one label to a memory file system, so that no
disk is measured. "Formatting" turns columns of integers into text. "The sink" is all that a
recording does: formatting, files under temporary names, and their publication. The limit is one
system call that writes the finished text. The compiled and the pure code take turns with the
others in one process. A figure is the median over the rounds of the processor time of all
threads, which is what one core can do.
"""

from __future__ import annotations

import asyncio
import csv
import random
import statistics
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import process_time_ns

from _machine import describe
from _table import show

from aqltelemetry.observation import CSV_HEADER, Batch, Column, Kind, SegmentId, Series
from aqltelemetry.sinks import csv_rows
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.csv_rows import Memory, format_batch
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.system import extensions
from aqltelemetry.system.threads import WorkerThread

ROUNDS = 9
SEGMENTS = 31
SEGMENT_ROWS = 32_597
ROWS = SEGMENTS * SEGMENT_ROWS
MEMORY = "/dev/shm"
START_NS = 1_795_489_012_671_577_403
LABEL = "/users/{user} [GET]"
PID = 4123


def made_batch(number: int, *, is_compiled: bool) -> Batch:
    """Return what a twin reads from a full segment, of some 500,000 observations per second."""
    dice = random.Random(number)
    first_ns = START_NS + number * SEGMENT_ROWS * 2000
    timepoints = array("q", range(first_ns, first_ns + SEGMENT_ROWS * 2000, 2000))
    values = array("q", (dice.randrange(1000, 50_000_000) for _ in range(SEGMENT_ROWS)))
    series = Series("duration", LABEL, Kind.NANOSECONDS)
    if is_compiled:
        column = Column(series, timepoints, values)
    else:
        column = Column(series, timepoints.tolist(), values.tolist())
    return Batch(SegmentId("0123456789abcdef", number + 1), PID, 64 << 20, [column])


def formatted(batches: list[Batch], directory: Path) -> None:
    """Format, and write nothing."""
    del directory
    memory = Memory()
    for batch in batches:
        format_batch(batch, memory=memory)


def by_sink(batches: list[Batch], directory: Path) -> None:
    """Do what a recording does."""

    async def work() -> None:
        thread = WorkerThread("aqltelemetry-sink")
        sink = CsvSink(str(directory), thread, Retention(str(directory), 1 << 40, 1e9))
        for batch in batches:
            await sink.write(batch)
        await sink.flush()
        await sink.close()
        thread.shutdown()

    asyncio.run(work())


def by_csv_writer(batches: list[Batch], directory: Path) -> None:
    """Write row by row by the standard library's `csv`."""
    with (directory / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for batch in batches:
            (column,) = batch.columns
            writer.writerows(
                (at_ns, f"{value / 1e9:.9f}", LABEL, PID)
                for at_ns, value in zip(column.timepoints_ns, column.values, strict=True)
            )


def by_f_strings(batches: list[Batch], directory: Path) -> None:
    """Write a formatted string for each row."""
    with (directory / "rows.csv").open("w") as file:
        for batch in batches:
            (column,) = batch.columns
            file.writelines(
                f"{at_ns},{value / 1e9:.9f},{LABEL},{PID}\n"
                for at_ns, value in zip(column.timepoints_ns, column.values, strict=True)
            )


def text_written(text: bytes, batches: list[Batch], directory: Path) -> None:
    """Write what is formatted already."""
    del batches
    with (directory / "rows.csv").open("wb", buffering=0) as file:
        file.write(text)


@contextmanager
def twin(is_compiled: bool) -> Iterator[None]:
    """Have one of the twins used."""
    chosen = csv_rows._write_blocks  # noqa: SLF001 - there is no other way to choose
    csv_rows._write_blocks = csv_rows._compiled_blocks if is_compiled else csv_rows._pure_blocks  # noqa: SLF001
    yield
    csv_rows._write_blocks = chosen  # noqa: SLF001


Contender = Callable[[list[Batch], Path], None]


def main() -> None:
    """Show one table."""
    describe()
    batches = {
        is_compiled: [made_batch(number, is_compiled=is_compiled) for number in range(SEGMENTS)]
        for is_compiled in (False, True)
    }
    text = CSV_HEADER + b"".join(
        block.text for batch in batches[True] for block in format_batch(batch)["duration"]
    )
    contenders: dict[str, tuple[bool, Contender]] = {
        "formatting, compiled": (True, formatted),
        "formatting, pure": (False, formatted),
        "the sink, compiled": (True, by_sink),
        "the sink, pure": (False, by_sink),
        "csv.writer": (False, by_csv_writer),
        "f-strings": (False, by_f_strings),
        "the limit: one write of the text": (False, partial(text_written, text)),
    }
    assert extensions.have_extensions(), "the compiled twin is not there"
    taken_s: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1, ROUNDS):
        for name, (is_compiled, contender) in contenders.items():
            with tempfile.TemporaryDirectory(dir=MEMORY) as directory, twin(is_compiled):
                started_ns = process_time_ns()
                contender(batches[is_compiled], Path(directory))
                if number >= 0:
                    taken_s[name].append((process_time_ns() - started_ns) / 1e9)
    medians = {name: ROWS / statistics.median(times) / 1e6 for name, times in taken_s.items()}
    rows = []
    for name, rate in medians.items():
        low, high = (ROWS / pick(taken_s[name]) / 1e6 for pick in (max, min))
        rows.append((name, rate, f"{low:.1f}-{high:.1f}", rate / medians["csv.writer"]))
    columns = {"": "", "M rows/s": ".1f", "least and most": "", "x csv.writer": ".1f"}
    title = f"Writing {ROWS:,} rows of {len(text) / ROWS:.0f} bytes, on one core"
    show(title, columns, rows, drawn="x csv.writer")


if __name__ == "__main__":
    main()
