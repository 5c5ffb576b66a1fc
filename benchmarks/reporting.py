"""How long the figures of a report take over ten million durations.

The recording is of 8 workers, as the CSV sink writes it: 1,000 files with 10,000 durations each,
of 100 labels, and the samples and accounts that are published with them. Each contender computes
count, median, 90th, 95th, 99th and 99.9th percentile and maximum of each label: `aqltelemetry` by
`TelemetryDB`, which loads everything and summarizes the workers too; duckdb by `quantile_cont`
over the same CSV files, whose types it is given; pandas by `read_csv` per file and `groupby`. All
take turns, each in a process of its own, whose time includes imports, and whose peak memory is
`VmHWM`. All must find the same figures.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

from _machine import describe
from _table import show

FILES, WORKERS, ROUTES, ROWS = 1_000, 8, 45, 100  # rows of each label in a file
ROUNDS = 5
SLOW_ROUNDS = 2
START_NS = 1_700_000_000_000_000_000
SPAN_NS = 60_000_000_000
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
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
    columns = ["count", "p50_s", "p90_s", "p95_s", "p99_s", "p999_s", "max_s"]
    figures = dict(zip(table.index, table[columns].to_numpy().tolist(), strict=True))
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


CONTENDERS: dict[str, Callable[[str], Figures]] = {
    "aqltelemetry report, its figures": with_telemetry_db,
    "duckdb, quantile_cont over read_csv": with_duckdb,
    "pandas, read_csv per file and groupby": with_pandas,
}
SLOW = {"pandas, read_csv per file and groupby"}


def child(name: str, directory: str) -> None:
    """Print what a contender found, its seconds, its CPU seconds and its peak memory in MiB."""
    started = perf_counter()
    figures = CONTENDERS[name](directory)
    taken_s = perf_counter() - started
    used = os.times()
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(json.dumps([figures, taken_s, used.user + used.system, int(status) / 1024]))


def run(name: str, directory: str) -> tuple[Figures, list[float]]:
    command = (sys.executable, __file__, name, directory)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures, *costs = json.loads(done.stdout)
    return figures, costs


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
    costs: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as directory:
        write(directory, FILES)
        for number in range(ROUNDS):
            found = {}
            for name in CONTENDERS:
                if name in SLOW and number >= SLOW_ROUNDS:
                    continue
                found[name], cost = run(name, directory)
                costs[name].append(cost)
            check_same(found)
    base = list(CONTENDERS)[1]
    middle = {
        name: [statistics.median(column) for column in zip(*each, strict=True)]
        for name, each in costs.items()
    }
    table: list[list[str | float | None]] = [
        [
            name,
            seconds,
            f"{min(cost[0] for cost in costs[name]):.2f}",
            seconds / middle[base][0],
            cpu_s,
            peak_mib,
        ]
        for name, (seconds, cpu_s, peak_mib) in middle.items()
    ]
    show(
        f"Figures of {FILES * 10_000:,} durations in {FILES:,} files: medians",
        {"": "", "s": ".2f", "least": "", "x duckdb": ".2f", "CPU s": ".2f", "peak MiB": ",.0f"},
        table,
        drawn="x duckdb",
    )


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else main()
