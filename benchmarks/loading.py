"""How fast a million observations in many files are loaded into pandas.

The files are as a recording writes them: 1,000 of 1,000 rows, and 20,000 of 50. The contenders
are `TelemetryDB` with its compiled parser, with pyarrow, and with pandas alone; one `read_csv` per
file, plain and with a time converter per row, as loaders of such files usually begin; and pyarrow,
polars and duckdb over the whole directory, as their documentation shows. All take turns and return
the same frame: times as datetime64[ns], categorical labels. The slowest take part in some of the
rounds only.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
from _machine import describe
from _table import show
from pyarrow import csv, dataset

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import CSV_HEADER, Batch, Column, Kind, SegmentId, Series
from aqltelemetry.reading import parsers
from aqltelemetry.sinks.csv_rows import format_batch
from aqltelemetry.sinks.file_names import FileName, enclosing

SIZES = {"1,000 files": (1_000, 100), "20,000 files": (20_000, 5)}  # rows of each label
LABELS = 10
ROUNDS = 9
SLOW_ROUNDS = {"1,000 files": 2, "20,000 files": 1}
START_NS = 1_700_000_000_000_000_000
WRITER = "0123456789abcdef"
ONE_LABEL = "/path/7/{id} [GET]"
_Load = Callable[[str], pd.DataFrame]


def with_telemetry_db(directory: str, **limits: Any) -> pd.DataFrame:
    # The others have no index of times.
    return TelemetryDB(directory, **limits).duration().data().reset_index(drop=True)


def with_parser_of_pyarrow(directory: str) -> pd.DataFrame:
    compiled, parsers.compiled = parsers.compiled, None
    try:
        return with_telemetry_db(directory)
    finally:
        parsers.compiled = compiled


def with_pandas_alone(directory: str) -> pd.DataFrame:
    have_pyarrow, parsers.HAVE_PYARROW = parsers.HAVE_PYARROW, False
    try:
        return with_parser_of_pyarrow(directory)
    finally:
        parsers.HAVE_PYARROW = have_pyarrow


def with_read_csv(directory: str) -> pd.DataFrame:
    frames = [pd.read_csv(path) for path in sorted(Path(directory).glob("*.csv"))]
    frame = pd.concat(frames, ignore_index=True)
    frame["Timepoint"] = pd.to_datetime(frame["Timepoint"])
    return frame.astype({"Label": "category"})


def with_timestamps(directory: str) -> pd.DataFrame:
    return _converted(directory, lambda text: pd.Timestamp(int(text)))


def with_to_datetime(directory: str) -> pd.DataFrame:
    return _converted(directory, lambda text: pd.to_datetime(int(text), unit="ns"))


def _converted(directory: str, convert: Callable[[str], pd.Timestamp]) -> pd.DataFrame:
    paths = sorted(Path(directory).glob("*.csv"))
    frames = [pd.read_csv(path, converters={"Timepoint": convert}) for path in paths]
    return pd.concat(frames, ignore_index=True).astype({"Label": "category"})


def with_pyarrow(directory: str) -> pd.DataFrame:
    kinds = {
        "Timepoint": pa.timestamp("ns"),
        "Measurement": pa.float64(),
        "Label": pa.dictionary(pa.int32(), pa.string()),
        "PID": pa.int64(),
    }
    # Integers are no timestamps to its parser.
    read = csv.ConvertOptions(column_types={**kinds, "Timepoint": pa.int64()})
    files = dataset.dataset(directory, format=dataset.CsvFileFormat(convert_options=read))
    frame: pd.DataFrame = files.to_table().cast(pa.schema(kinds)).to_pandas()
    return frame


def with_polars(directory: str, chosen: pl.Expr | None = None) -> pd.DataFrame:
    kinds = {"Timepoint": pl.Int64(), "Measurement": pl.Float64(), "Label": pl.Categorical()}
    rows = pl.scan_csv(f"{directory}/*.csv", schema=pl.Schema({**kinds, "PID": pl.Int64()}))
    if chosen is not None:
        rows = rows.filter(chosen)
    return rows.with_columns(pl.from_epoch("Timepoint", time_unit="ns")).collect().to_pandas()


def with_duckdb(directory: str, chosen: str = "true") -> pd.DataFrame:
    rows = duckdb.sql(f"""
        SELECT make_timestamp_ns(Timepoint) AS Timepoint, Measurement, Label, PID
        FROM read_csv('{directory}/*.csv', header = true, columns = {{
            'Timepoint': 'BIGINT', 'Measurement': 'DOUBLE', 'Label': 'VARCHAR', 'PID': 'BIGINT'
        }}) WHERE {chosen}
    """)
    assert rows is not None
    frame: pd.DataFrame = rows.to_arrow_table().to_pandas()
    return frame.astype({"Label": "category"})


CONTENDERS: dict[str, _Load] = {
    "TelemetryDB": with_telemetry_db,
    "TelemetryDB, with pyarrow": with_parser_of_pyarrow,
    "TelemetryDB, pandas alone": with_pandas_alone,
    "pyarrow.dataset": with_pyarrow,
    "polars.scan_csv": with_polars,
    "duckdb, read_csv": with_duckdb,
}
SLOW: dict[str, _Load] = {
    "read_csv per file": with_read_csv,
    "read_csv per file, Timestamp(...) per row": with_timestamps,
    "read_csv per file, to_datetime(...) per row": with_to_datetime,
}


def limited(files: int) -> dict[str, dict[str, _Load]]:
    """Return what loads a part of the rows, by part and contender."""
    last = START_NS + (files - files // 100 + 1) * 10**9
    db, duck, bear = with_telemetry_db, with_duckdb, with_polars
    label, since = pl.col("Label") == ONE_LABEL, pl.col("Timepoint") >= last
    return {
        "one label of ten": {
            "TelemetryDB": lambda directory: db(directory, labels=[ONE_LABEL]),
            "polars": lambda directory: bear(directory, label),
            "duckdb": lambda directory: duck(directory, f"Label = '{ONE_LABEL}'"),
        },
        "the last hundredth of the time": {
            "TelemetryDB": lambda directory: db(directory, since=last),
            "polars": lambda directory: bear(directory, since),
            "duckdb": lambda directory: duck(directory, f"Timepoint >= {last}"),
        },
    }


def write(directory: str, files: int, rows: int) -> None:
    """Write files as a recording does, each of one segment."""
    for number in range(1, files + 1):
        columns = []
        for label in range(LABELS):
            first = START_NS + number * 10**9 + label * 10**6
            times = range(first, first + rows)
            series = Series("duration", f"/path/{label}/{{id}} [GET]", Kind.NANOSECONDS)
            columns.append(Column(series, times, [237_000_123 + at % 9_999 for at in times]))
        batch = Batch(SegmentId(WRITER, number), 4711, 16 << 20, columns)
        blocks = format_batch(batch, lambda: None)["duration"]
        span = enclosing(blocks[0].from_ns, blocks[-1].to_ns)
        name = FileName("duration", *span, 4711, WRITER, number, number, 0)
        text = b"".join(block.text for block in blocks)
        (Path(directory) / str(name)).write_bytes(CSV_HEADER + text)


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Say whether two frames hold the same observations in the same form."""
    assert one["Timepoint"].dtype == other["Timepoint"].dtype == "datetime64[ns]"
    assert one["Label"].dtype == other["Label"].dtype == "category"
    plain = [frame.assign(Label=list(frame["Label"])) for frame in (one, other)]
    return plain[0].equals(plain[1])


def timed(load: _Load, directory: str, wanted: pd.DataFrame) -> float:
    started = perf_counter()
    frame = load(directory)
    taken_s = perf_counter() - started
    assert same(frame, wanted)
    return taken_s


def measure(directories: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Return the seconds that each contender took, by number of files."""
    found: dict[str, dict[str, list[float]]] = {size: {} for size in SIZES}
    wanted = {size: with_telemetry_db(directories[size]) for size in SIZES}
    for number in range(ROUNDS):
        for name, load in {**CONTENDERS, **SLOW}.items():
            for size in SIZES:
                if name in SLOW and number >= SLOW_ROUNDS[size]:
                    continue
                taken_s = timed(load, directories[size], wanted[size])
                found[size].setdefault(name, []).append(taken_s)
    return found


def measure_limited(directory: str, files: int) -> list[list[str | float]]:
    """Return rows: which part is loaded, and the milliseconds of each contender."""
    rows: list[list[str | float]] = []
    for part, contenders in limited(files).items():
        wanted = contenders["TelemetryDB"](directory)
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, load in contenders.items():
                taken[name].append(timed(load, directory, wanted) * 1e3)
        rows.append([part, *(statistics.median(each) for each in taken.values())])
    return rows


def main() -> None:
    """Print two tables."""
    describe("pandas", "pyarrow", "polars", "duckdb")
    with tempfile.TemporaryDirectory() as root:
        directories = {size: f"{root}/{files}" for size, (files, _) in SIZES.items()}
        for size, (files, rows) in SIZES.items():
            Path(directories[size]).mkdir()
            write(directories[size], files, rows)
        found = measure(directories)
        parts = measure_limited(directories["1,000 files"], SIZES["1,000 files"][0])
    ours, base = next(iter(CONTENDERS)), "read_csv per file, to_datetime(...) per row"
    few, many = SIZES
    table: list[list[str | float | None]] = []
    for name in (*CONTENDERS, *SLOW):
        middle = {size: statistics.median(found[size][name]) for size in SIZES}
        slowest = statistics.median(found[few][base])
        best = statistics.median(found[few][ours])
        # Of whatever number of rounds, the least is what other work disturbed least.
        least = {size: min(found[size][name]) for size in SIZES}
        table.append(
            [
                name,
                middle[few],
                f"{least[few]:.3f}",
                slowest / middle[few],
                middle[few] / best,
                middle[many],
                f"{least[many]:.3f}",
                middle[many] / middle[few],
            ]
        )
    show(
        "Loading 1,000,000 rows into pandas: medians, in seconds",
        {
            "": "",
            few: ".3f",
            "least": "",
            "times as fast as to_datetime per row": ".0f",
            "x TelemetryDB": ".2f",
            many: ".3f",
            "least ": "",
            "x its 1,000 files": ".1f",
        },
        table,
        drawn="x TelemetryDB",
    )
    columns = {"": "", **dict.fromkeys(("TelemetryDB", "polars", "duckdb"), ".1f")}
    show("Loading a part of them, of 1,000 files: medians, in ms", columns, parts)


if __name__ == "__main__":
    main()
