"""How fast a million observations in a thousand files are loaded into pandas.

The files are written by the recording itself. Beside `TelemetryDB` stand one
`read_csv` per file, plain and with a converter of the time in each row, as
loaders of such files usually begin. All take turns and give the same frame.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pandas as pd
from _machine import describe

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import Batch, Column, Kind, SegmentId, Series
from aqltelemetry.sinks.csv_file import CsvSink
from aqltelemetry.sinks.retention import Retention
from aqltelemetry.threads import WorkerThread

FILES = 1_000
ROWS = 1_000
LABELS = 20
ROUNDS = 5
START_NS = 1_700_000_000_000_000_000


def with_telemetry_db(directory: str) -> pd.DataFrame:
    return TelemetryDB(directory).duration().data()


def with_read_csv(directory: str) -> pd.DataFrame:
    frames = [pd.read_csv(path) for path in sorted(Path(directory).glob("duration.*.csv"))]
    frame = pd.concat(frames, ignore_index=True)
    frame["Timepoint"] = pd.to_datetime(frame["Timepoint"])
    return frame


def with_converter(directory: str) -> pd.DataFrame:
    convert = {"Timepoint": lambda text: pd.Timestamp(int(text))}
    paths = sorted(Path(directory).glob("duration.*.csv"))
    frames = [pd.read_csv(path, converters=convert) for path in paths]
    return pd.concat(frames, ignore_index=True)


CONTENDERS: dict[str, Callable[[str], pd.DataFrame]] = {
    "TelemetryDB": with_telemetry_db,
    "read_csv per file": with_read_csv,
    "read_csv per file, time converter": with_converter,
}


async def write(directory: str) -> None:
    """Write the files as a recording would."""
    thread = WorkerThread("writer")
    sink = CsvSink(directory, thread, Retention(directory, 1 << 40, 1e9))
    for number in range(1, FILES + 1):
        columns = []
        for label in range(LABELS):
            first = START_NS + number * 10**9 + label * 10**6
            times = range(first, first + ROWS // LABELS)
            series = Series("duration", f"/path/{label}/{{id}} [GET]", Kind.NANOSECONDS)
            columns.append(Column(series, times, [237_000_123 + at % 9_999 for at in times]))
        batch = Batch(SegmentId("0123456789abcdef", number), 4711, 16 << 20, columns)
        await sink.write(batch)
        await sink.flush()
    await sink.close()
    thread.shutdown()


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Say whether two frames hold the same observations."""
    plain = [
        frame.assign(Timepoint=frame["Timepoint"].astype("int64"), Label=list(frame["Label"]))
        for frame in (one, other)
    ]
    return plain[0].equals(plain[1])


def main() -> None:
    """Print one table."""
    describe("pandas")
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(write(directory))
        wanted = with_converter(directory)
        assert len(wanted) == FILES * ROWS
        for _ in range(ROUNDS):
            for name, contender in CONTENDERS.items():
                started = perf_counter()
                frame = contender(directory)
                taken[name].append(perf_counter() - started)
                assert same(frame, wanted), name
    base = statistics.median(taken["TelemetryDB"])
    for name, times in taken.items():
        middle = statistics.median(times)
        print(f"{name:36}{middle:7.2f} s   {middle / base:6.1f} x")


if __name__ == "__main__":
    main()
