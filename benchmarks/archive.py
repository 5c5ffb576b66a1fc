"""How small an archive is, and how fast it answers.

All measurements are made in processes of their own. "s" is the wall time of such a process with all
imports, "CPU s" its processor time, "peak MiB" its largest resident memory (`ru_maxrss`); medians
of the rounds, in which the contenders take turns, but the largest of the peaks.

The recordings are what `aqltelemetry demo` records, and ten million durations of 100 labels in
1,000 files, with the samples and accounts that are published with them (`reporting` writes them).

- `aqltelemetry compact` of both: bytes per row of all rows, and of the durations alone.
- a report of the ten million durations: the command; its figures alone (`TelemetryDB.summary` and
  `workers`); duckdb's `quantile_cont` of each label, over the archives.
- of a hundred million rows, count, median and 99th percentile of one route of one hour. The
  archives are made of the ten million: each row again, ten times, an hour later each time, so that
  an hour in the middle has almost ten million rows.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import reporting
from _machine import describe
from _table import show

ROUNDS = 5
HOURS = 10
HOUR_NS = 3600 * 10**9
ROUTE = reporting.labels()[7]
_COMMAND = (sys.executable, "-m", "aqltelemetry")
_SHARES = "[0.5, 0.99]"
_COMPACT = """
import json, os, sys
from aqltelemetry.archive.compact import compact
from aqltelemetry.sinks.archives import read_members
done = compact(sys.argv[1], older_than_ns=0)
archives = [entry.path for entry in os.scandir(sys.argv[1]) if "duration." in entry.name]
print(json.dumps({
    "rows": done.rows, "csv": done.csv_bytes, "archive": done.archive_bytes,
    "durations": sum(member.rows for path in archives for member in read_members(path)),
    "of durations": sum(map(os.path.getsize, archives)),
}))
"""
_FIGURES = """
import json, sys
from aqltelemetry import TelemetryDB
db = TelemetryDB(sys.argv[1])
table = db.summary()
assert len(db.workers())
print(json.dumps({label: [row["p50_s"], row["p99_s"]] for label, row in table.iterrows()}))
"""
_DUCKDB_FIGURES = f"""
import duckdb, json, sys
rows = duckdb.sql(
    "SELECT label, quantile_cont(coalesce(value, value_ns / 1e9), {_SHARES})"
    f" FROM '{{sys.argv[1]}}/duration.*.parquet' GROUP BY label"
).fetchall()
print(json.dumps(dict(rows)))
"""
_ROUTE = """
import json, sys
from aqltelemetry import TelemetryDB
since, until = int(sys.argv[2]), int(sys.argv[3])
db = TelemetryDB(sys.argv[1], since=since, until=until, labels=sys.argv[4])
row = db.summary().iloc[0]
print(json.dumps([int(row["count"]), row["p50_s"], row["p99_s"]]))
"""
_DUCKDB_ROUTE = f"""
import duckdb, json, sys
rows = duckdb.execute(
    "SELECT count(*), quantile_cont(coalesce(value, value_ns / 1e9), {_SHARES})"
    f" FROM '{{sys.argv[1]}}/duration.*.parquet' WHERE at_ns >= ? AND at_ns < ? AND label = ?",
    [int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]],
).fetchall()
print(json.dumps([rows[0][0], *rows[0][1]]))
"""
_COSTS = {"": "", "s": ".2f", "CPU s": ".2f", "peak MiB": ",.0f"}


class Measured:
    """What a process printed, its seconds, processor seconds and peak memory in MiB."""

    def __init__(self, *command: str) -> None:
        started = perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            self.printed = child.stdout.read().decode()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, command
        self.taken_s = perf_counter() - started
        self.processor_s = usage.ru_utime + usage.ru_stime
        self.peak_mib = usage.ru_maxrss / 1024


def program(text: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a program."""
    return sys.executable, "-c", text, *arguments


def repeat(archived: Path) -> None:
    """Add the rows of all archives again, an hour later each time."""
    import numpy as np  # noqa: PLC0415 - not in the memory of the other processes' parent
    import pyarrow as pa  # noqa: PLC0415 - as above
    from pyarrow import parquet  # noqa: PLC0415 - as above

    from aqltelemetry.reading.archives import encoding  # noqa: PLC0415 - as above
    from aqltelemetry.reading.archives.checksums import add_by_code, keys  # noqa: PLC0415
    from aqltelemetry.reading.archives.rows import read_parts  # noqa: PLC0415 - as above
    from aqltelemetry.sinks import archives  # noqa: PLC0415 - as above

    def write(path: Path, later_ns: int) -> None:
        members = archives.read_members(str(path))
        sums = np.zeros(len(members), np.uint64)
        for rows, codes in read_parts(str(path)):
            later_rows = replace(rows, timepoints_ns=rows.timepoints_ns + later_ns)
            add_by_code(sums, codes, keys(later_rows))
        later = [
            member._replace(
                name=member.name._replace(
                    from_ns=member.name.from_ns + later_ns,
                    to_ns=member.name.to_ns + later_ns,
                    first=member.name.first + later_ns // HOUR_NS * 10_000,
                    last=member.name.last + later_ns // HOUR_NS * 10_000,
                ),
                checksum=checksum,
            )
            for member, checksum in zip(members, sums.tolist(), strict=True)
        ]
        table = parquet.read_table(path, read_dictionary=["label", "writer"])
        times = pa.array(table["at_ns"].to_numpy() + later_ns)
        table = table.set_column(table.schema.get_field_index("at_ns"), "at_ns", times)
        target = archived / str(archives.name_of(member.name for member in later))
        metadata = archives.metadata(later)
        with encoding.open_writer(target, table.schema, metadata) as writer:
            encoding.write(writer, table)

    for path in sorted(archived.glob("*.parquet")):
        for hour in range(1, HOURS):
            write(path, hour * HOUR_NS)


def sizes(name: str, directory: Path) -> tuple[list[str | float | None], int]:
    """Archive a recording; return a row of the table, and the number of its durations."""
    made = Measured(*program(_COMPACT, str(directory)))
    found: Mapping[str, int] = json.loads(made.printed)
    rows, durations = found["rows"], found["durations"]
    of_all, of_durations = found["archive"] / rows, found["of durations"] / durations
    rate = rows / made.processor_s / 1e6
    csv = found["csv"] / rows
    return [name, f"{rows:,}", csv, of_all, of_durations, rate, made.peak_mib], durations


def compare(title: str, commands: Mapping[str, Sequence[str]]) -> list[Measured]:
    """Show what several processes cost, and return one of each."""
    runs: dict[str, list[Measured]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            runs[name].append(Measured(*command))
    table: list[list[str | float | None]] = [
        [
            name,
            statistics.median(each.taken_s for each in measured),
            statistics.median(each.processor_s for each in measured),
            max(each.peak_mib for each in measured),
        ]
        for name, measured in runs.items()
    ]
    show(title, _COSTS, table)
    return [measured[0] for measured in runs.values()]


def show_sizes(csv: Path, archived: Path, demo: Path) -> int:
    """Show what a row takes; return the number of the durations in `csv`."""
    shutil.copytree(csv, archived, copy_function=os.link)
    synthetic, durations = sizes("ten million durations", archived)
    subprocess.run((*_COMMAND, "demo", str(demo)), check=True, stdout=subprocess.DEVNULL)
    columns = {
        "": "",
        "rows": "",
        "bytes a row, CSV": ".1f",
        "archived": ".2f",
        "durations alone": ".2f",
        "M rows/s of a core": ".2f",
        "peak MiB": ",.0f",
    }
    table = [synthetic, sizes("aqltelemetry demo", demo)[0]]
    show("Bytes of a row in archives, and what making them takes", columns, table)
    return durations


def show_reports(csv: Path, archived: Path, durations: int) -> None:
    """Show what a report costs, of archives and of CSV files."""
    _, _, ours, other, duckdb = compare(
        f"A report of {durations:,} durations",
        {
            "aqltelemetry report, archives": (*_COMMAND, "report", str(archived)),
            "aqltelemetry report, CSV files": (*_COMMAND, "report", str(csv)),
            "aqltelemetry, TelemetryDB: its figures, archives": program(_FIGURES, str(archived)),
            "aqltelemetry, TelemetryDB: its figures, CSV files": program(_FIGURES, str(csv)),
            "duckdb, quantile_cont over the archives": program(_DUCKDB_FIGURES, str(archived)),
        },
    )
    assert ours.printed == other.printed
    figures, of_duckdb = json.loads(ours.printed), json.loads(duckdb.printed)
    for label, quantiles in figures.items():
        assert all(abs(a - b) <= 1e-9 * b for a, b in zip(quantiles, of_duckdb[label], strict=True))


def show_route(archived: Path, durations: int) -> None:
    """Show what the percentiles of a route of an hour cost."""
    since_ns = reporting.START_NS + 5 * HOUR_NS
    arguments = (str(archived), str(since_ns), str(since_ns + HOUR_NS), ROUTE)
    files = sum(1 for _ in archived.glob("duration.*.parquet"))
    ours, duckdb = compare(
        f"Percentiles of one route of one hour, of {HOURS * durations:,} durations in {files} "
        "archives",
        {
            "aqltelemetry, TelemetryDB": program(_ROUTE, *arguments),
            "duckdb, quantile_cont over the archives": program(_DUCKDB_ROUTE, *arguments),
        },
    )
    (count, *quantiles), (other, *others) = json.loads(ours.printed), json.loads(duckdb.printed)
    assert count == other > 0
    assert all(abs(a - b) <= 1e-9 * b for a, b in zip(quantiles, others, strict=True))


def main() -> None:
    """Print the tables."""
    describe("pandas", "pyarrow", "duckdb")
    with tempfile.TemporaryDirectory() as place:
        csv, archived, demo = Path(place, "csv"), Path(place, "archived"), Path(place, "demo")
        csv.mkdir()
        subprocess.run((sys.executable, reporting.__file__, "write", str(csv)), check=True)
        durations = show_sizes(csv, archived, demo)
        show_reports(csv, archived, durations)
        shutil.rmtree(csv)
        subprocess.run((sys.executable, __file__, "repeat", str(archived)), check=True)
        show_route(archived, durations)


if __name__ == "__main__":
    if sys.argv[1:2] == ["repeat"]:
        repeat(Path(sys.argv[2]))
    else:
        main()
