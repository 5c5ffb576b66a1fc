"""How long a report of ten million durations takes, and its figures alone.

The recording is of 8 workers, as the CSV sink writes it: 1,000 files with 10,000 durations each,
of 100 labels, and the samples and accounts that are published with them. The contenders take
turns, each in a process of its own:

- `aqltelemetry report`: the command as a user runs it, with its findings and all of its tables;
- `aqltelemetry report --html`: the same as a page with charts, written into a file;
- `TelemetryDB`: the figures of each label and of each worker, which are a part of the report;
- duckdb: count, median, 90th, 95th, 99th and 99.9th percentile and maximum of each label, by
  `quantile_cont` over the same CSV files, whose types it is given;
- pandas: the same by `read_csv` per file and `groupby`.

"s" is the wall time of the process from its start to its end, and "CPU s" its processor time, both
with all imports. "s, alone" is the wall time without the start of Python and without the import of
the package: of duckdb, the query. "peak MiB" is the largest resident memory (`ru_maxrss`). All must
find the same figures of each label.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

from _machine import describe
from _table import show

FILES, WORKERS, ROUTES, ROWS = 1_000, 8, 45, 100  # rows of each label in a file
ROUNDS = 5
SLOW_ROUNDS = 2
START_NS = 1_700_000_000_000_000_000
SPAN_NS = 60_000_000_000
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
COLUMNS = ("count", "p50_s", "p90_s", "p95_s", "p99_s", "p999_s", "max_s")
Figures: TypeAlias = dict[str, list[float]]


def labels() -> list[str]:
    """Return a hundred labels: of routes, their first bytes and errors, and of blocks."""
    routes = [f"/api/{number}/items/{{item_id}} [GET]" for number in range(ROUTES)]
    errors = [f"{route} 5xx" for route in routes[:5]]
    first_bytes = [f"{route} ttfb" for route in routes]
    return [*routes, *first_bytes, *errors, *(f"block {name}" for name in "abcde")]


def write(directory: str, files: int) -> None:
    """Write a recording; the same one each time."""
    import numpy as np  # noqa: PLC0415 - not in the processes of the contenders

    chance = np.random.default_rng(15)
    for number in range(files):
        worker, turn = number % WORKERS, number // WORKERS
        begin_ns = START_NS + turn * SPAN_NS
        columns: dict[str, Any] = {}
        for place, label in enumerate(labels()):
            at_ns = begin_ns + np.sort(chance.integers(0, SPAN_NS, ROWS))
            medians_ns = 1e6 * (1 + place)
            lengths = chance.lognormal(math.log(medians_ns), 0.6, ROWS).astype(np.int64)
            columns[label] = at_ns.tolist(), lengths.tolist()
        for label in [label for label in columns if label.endswith(" 5xx")]:
            of_route = columns[label.removesuffix(" 5xx")]
            columns[label] = of_route[0][::4], of_route[1][::4]
            columns["block a"][0].extend(columns["block a"][0][:75])
            columns["block a"][1].extend(columns["block a"][1][:75])
        _publish(directory, worker, turn, begin_ns, columns)


def _publish(directory: str, worker: int, turn: int, begin_ns: int, columns: Any) -> None:
    from aqltelemetry.observation import (  # noqa: PLC0415 - as above
        CSV_HEADER,
        Batch,
        Column,
        Kind,
        SegmentAccount,
        SegmentId,
        Series,
    )
    from aqltelemetry.sinks.account import AccountBuilder  # noqa: PLC0415
    from aqltelemetry.sinks.csv_rows import format_batch  # noqa: PLC0415
    from aqltelemetry.sinks.file_names import FileName, enclosing  # noqa: PLC0415

    batch_columns = [
        Column(Series("duration", label, Kind.NANOSECONDS), *column)
        for label, column in columns.items()
    ]
    every_s = [begin_ns + second * 10**9 for second in range(SPAN_NS // 10**9)]
    for label in ("user time", "system time", "rss", "gc collections", "requests in flight"):
        values = [float(turn * 60 + second) for second in range(len(every_s))]
        batch_columns.append(Column(Series("runtime", label, Kind.FLOAT), every_s, values))
    lags = Series("runtime", "event loop lag", Kind.FLOAT)
    batch_columns.append(Column(lags, every_s, [0.001 + second / 7e5 for second in range(60)]))
    accepted = sum(len(column.values) for column in batch_columns)
    account = SegmentAccount(accepted, before=turn * accepted)
    pid, writer, segment = 4711 + worker, f"{worker:016x}", turn + 1
    batch = Batch(SegmentId(writer, segment), pid, 16 << 20, batch_columns, account=account)
    texts = dict(format_batch(batch, lambda: None))
    builder = AccountBuilder()
    builder.add(account, texts)
    texts["account"] = [builder.block(pid, {}, 0)]  # type: ignore[arg-type, list-item]
    for prefix, blocks in texts.items():
        span = enclosing(min(b.from_ns for b in blocks), max(b.to_ns for b in blocks))
        name = FileName(prefix, *span, pid, writer, segment, segment, 0)
        text = b"".join(block.text for block in blocks)
        (Path(directory) / str(name)).write_bytes(CSV_HEADER + text)


def with_telemetry_db(directory: str) -> Figures:
    from aqltelemetry import TelemetryDB  # noqa: PLC0415 - a part of the time

    db = TelemetryDB(directory)
    table = db.summary()
    assert len(db.workers()) == WORKERS
    figures = dict(zip(table.index, table[[*COLUMNS]].to_numpy().tolist(), strict=True))
    errors = table[table["errors_5xx"] > 0]["errors_5xx"]
    return figures | {f"{label} 5xx": [count] for label, count in errors.items()}


def with_duckdb(directory: str) -> Figures:
    import duckdb  # noqa: PLC0415 - a part of the time

    rows = duckdb.sql(f"""
        SELECT Label, count(*), quantile_cont(Measurement, {list(QUANTILES)}), max(Measurement)
        FROM read_csv('{directory}/duration.*.csv', header = true, columns = {{
            'Timepoint': 'BIGINT', 'Measurement': 'DOUBLE', 'Label': 'VARCHAR', 'PID': 'BIGINT'
        }}) GROUP BY Label
    """)
    assert rows is not None
    found = rows.fetchall()
    return {label: [count, *quantiles, largest] for label, count, quantiles, largest in found}


def with_pandas(directory: str) -> Figures:
    import pandas as pd  # noqa: PLC0415 - a part of the time

    kinds = {"Timepoint": "int64", "Measurement": "float64", "Label": "category", "PID": "int64"}
    paths = sorted(Path(directory).glob("duration.*.csv"))
    frames = [pd.read_csv(path, dtype=kinds) for path in paths]
    grouped = pd.concat(frames).groupby("Label", observed=True)["Measurement"]
    quantiles = [grouped.quantile(share) for share in QUANTILES]
    table = pd.concat([grouped.count(), *quantiles, grouped.max()], axis=1)
    return dict(zip(table.index, table.to_numpy().tolist(), strict=True))


PACKAGES: dict[str, Callable[[str], Figures]] = {
    "aqltelemetry.reading.database": with_telemetry_db,
    "duckdb": with_duckdb,
    "pandas": with_pandas,
}
COMMAND, QUERY = "aqltelemetry report, the command", "duckdb, quantile_cont over read_csv"
PAGE = "aqltelemetry report --html, the command"
REPORT = ("aqltelemetry", "report")
CONTENDERS: dict[str, str] = {
    COMMAND: "",
    PAGE: "--html",
    "aqltelemetry, TelemetryDB: its figures": "aqltelemetry.reading.database",
    QUERY: "duckdb",
    "pandas, read_csv per file and groupby": "pandas",
}
"""The contenders, and the package that each of those imports that are not a command."""
SLOW = {"pandas, read_csv per file and groupby"}


COLUMN_FORMS = {
    "": "",
    "s": ".2f",
    "least": ".2f",
    "x duckdb": ".2f",
    "s, alone": ".2f",
    "CPU s": ".2f",
    "peak MiB": ",.0f",
}


class Cost(NamedTuple):
    """Seconds of a process, without its imports if that is known, and its peak memory."""

    wall_s: float
    alone_s: float | None
    cpu_s: float
    peak_mib: float


def child(package: str, directory: str) -> None:
    """Print what a contender found, and its seconds after the import of its package."""
    import_module(package)
    started = perf_counter()
    figures = PACKAGES[package](directory)
    print(json.dumps([figures, perf_counter() - started]))


def run(package: str, directory: str) -> tuple[Figures | None, Cost]:
    """Run a contender; the command's text and page have no exact figures."""
    if package == "--html":
        with tempfile.TemporaryDirectory() as place:
            return None, _cost(("-m", *REPORT, "--html", f"{place}/page.html"), directory)[1]
    text, cost = _cost((__file__, package) if package else ("-m", *REPORT), directory)
    if not package:
        return None, cost
    figures, alone_s = json.loads(text)
    return figures, cost._replace(alone_s=alone_s)


def _cost(program: Sequence[str], directory: str) -> tuple[bytes, Cost]:
    command = (sys.executable, *program, directory)
    started = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return text, Cost(wall_s, None, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def reported(directory: str) -> Figures:
    """Return the figures that the command computes, by its option --json."""
    command = (sys.executable, "-m", "aqltelemetry", "report", "--json", directory)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: Figures = {}
    for row in json.loads(done.stdout)["durations"]:
        figures[row["label"]] = [row[name] for name in COLUMNS]
        if row["errors_5xx"]:
            figures[f"{row['label']} 5xx"] = [row["errors_5xx"]]
    return figures


def check_same(found: dict[str, Figures]) -> None:
    """Fail unless all contenders found the same figures, but for the last bits."""
    ours, *others = found.values()
    for other in others:
        assert ours.keys() == other.keys()
        for label, figures in ours.items():
            wanted = other[label][: len(figures)]
            assert all(map(math.isclose, figures, wanted)), (label, figures, wanted)


def main() -> None:
    """Print a table."""
    describe("pandas", "pyarrow", "duckdb")
    costs: dict[str, list[Cost]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        # In a process of its own: a child's peak memory is at least that of its parent.
        subprocess.run((sys.executable, __file__, "write", directory), check=True)
        found = {COMMAND: reported(directory)}
        for number in range(ROUNDS):
            for name, package in CONTENDERS.items():
                if name in SLOW and number >= SLOW_ROUNDS:
                    continue
                figures, cost = run(package, directory)
                costs[name].append(cost)
                if figures is not None:
                    found[name] = figures
            check_same(found)
    show_costs(costs)


def show_costs(costs: dict[str, list[Cost]]) -> None:
    """Show the medians of each contender."""
    base = statistics.median(cost.wall_s for cost in costs[QUERY])
    table: list[list[str | float | None]] = []
    for name, each in costs.items():
        alone = [cost.alone_s for cost in each if cost.alone_s is not None]
        wall_s = statistics.median(cost.wall_s for cost in each)
        figures = wall_s, min(cost.wall_s for cost in each), wall_s / base
        used = statistics.median(cost.cpu_s for cost in each)
        alone_s = statistics.median(alone) if alone else None
        table.append([name, *figures, alone_s, used, max(cost.peak_mib for cost in each)])
    show(
        f"A report of {FILES * 10_000:,} durations in {FILES:,} files: medians",
        COLUMN_FORMS,
        table,
        drawn="x duckdb",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], FILES)
    elif len(sys.argv) > 1:
        child(*sys.argv[1:])
    else:
        main()
