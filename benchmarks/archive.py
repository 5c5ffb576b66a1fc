"""How small an archive is, and how fast it answers.

Three measurements, each in a process of its own, whose time includes imports and whose peak memory
is that of the process:

- `aqltelemetry compact` of ten million durations of 100 labels in 1,000 files (`reporting` writes
  them): bytes per row, and rows per second of processor time.
- the figures of a report over them (`TelemetryDB.summary` and `workers`), from the archives and
  from the CSV files, in turns.
- of a hundred million rows, the percentiles of one route of one hour. The archives are made of the
  ten million: each row again, ten times, an hour later each time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import reporting
from _machine import describe
from _table import show

ROUNDS = 3
HOURS = 10
HOUR_NS = 3600 * 10**9
ROUTE = reporting.labels()[7]
_COMPACT = """
import sys
from aqltelemetry.archive.compact import compact
done = compact(sys.argv[1], older_than_ns=0)
print(done.rows, done.csv_bytes, done.archive_bytes)
"""
_REPORT = """
import sys
from aqltelemetry import TelemetryDB
db = TelemetryDB(sys.argv[1])
print(int(db.summary()["count"].sum()), len(db.workers()))
"""
_ROUTE = """
import sys
from aqltelemetry import TelemetryDB
since, until = int(sys.argv[2]), int(sys.argv[3])
db = TelemetryDB(sys.argv[1], since=since, until=until, labels=sys.argv[4])
row = db.summary().iloc[0]
print(int(row["count"]), row["p50_s"], row["p99_s"])
"""


class Measured:
    """What a process printed, its seconds, processor seconds and peak memory in MiB."""

    def __init__(self, program: str, *arguments: str) -> None:
        started = perf_counter()
        with subprocess.Popen(
            (sys.executable, "-c", program, *arguments), stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            self.found = child.stdout.read().decode().split()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        self.taken_s = perf_counter() - started
        self.processor_s = usage.ru_utime + usage.ru_stime
        self.peak_mib = usage.ru_maxrss / 1024


def repeat(archived: Path, hours: int) -> None:
    """Add the archived rows again, an hour later each time, in archives of the same form."""
    from aqltelemetry.archive.archive_file import write_archive  # noqa: PLC0415
    from aqltelemetry.archive.csv_file import Content  # noqa: PLC0415 - not in the parent's memory
    from aqltelemetry.reading.archives.checksums import checksum  # noqa: PLC0415
    from aqltelemetry.reading.archives.rows import read_archive  # noqa: PLC0415
    from aqltelemetry.reading.rows import join  # noqa: PLC0415
    from aqltelemetry.sinks.archives import Member, read_members  # noqa: PLC0415

    def content(path: Path, member: Member, later_ns: int) -> Any:
        from dataclasses import replace  # noqa: PLC0415

        rows = join(read_archive(str(path), chosen=lambda name: name == member.name))
        rows = replace(rows, timepoints_ns=rows.timepoints_ns + later_ns)
        first = member.name.first + later_ns // HOUR_NS * 10_000
        name = member.name._replace(
            from_ns=member.name.from_ns + later_ns,
            to_ns=member.name.to_ns + later_ns,
            first=first,
            last=first,
        )
        return Content(Member(name, len(rows), checksum(rows), member.amount), rows)

    for path in sorted(archived.glob("duration.*.parquet")):
        members = read_members(str(path))
        for hour in range(1, hours):
            write_archive(
                str(archived), [content(path, member, hour * HOUR_NS) for member in members]
            )


def main() -> None:
    """Print the tables."""
    describe("pandas", "pyarrow")
    with tempfile.TemporaryDirectory() as place:
        csv, archived = Path(place, "csv"), Path(place, "archived")
        csv.mkdir()
        subprocess.run((sys.executable, reporting.__file__, "write", str(csv)), check=True)
        shutil.copytree(csv, archived)
        made = Measured(_COMPACT, str(archived))
        rows, csv_bytes, archive_bytes = map(int, made.found)
        table: list[list[str | float | None]] = [
            ["CSV", csv_bytes / rows, None, None],
            ["archive", archive_bytes / rows, rows / made.processor_s / 1e6, made.peak_mib],
        ]
        columns = {"": "", "bytes a row": ".2f", "M rows/s of a core": ".2f", "peak MiB": ",.0f"}
        show(f"{rows:,} rows of all prefixes as archives", columns, table)
        _show_reports(csv, archived)
        shutil.rmtree(csv)
        subprocess.run((sys.executable, __file__, "repeat", str(archived)), check=True)
        _show_route(archived)


def _show_reports(csv: Path, archived: Path) -> None:
    runs: dict[str, list[Measured]] = {"archive": [], "CSV files": []}
    for _ in range(ROUNDS):
        for name, directory in (("archive", archived), ("CSV files", csv)):
            runs[name].append(Measured(_REPORT, str(directory)))
    assert runs["archive"][0].found == runs["CSV files"][0].found
    table = [_row(name, measured) for name, measured in runs.items()]
    show(f"The figures of a report over {runs['archive'][0].found[0]} durations", _COLUMNS, table)


def _show_route(archived: Path) -> None:
    since_ns = reporting.START_NS + 5 * HOUR_NS
    arguments = (str(archived), str(since_ns), str(since_ns + HOUR_NS), ROUTE)
    measured = [Measured(_ROUTE, *arguments) for _ in range(ROUNDS)]
    rows = sum(1 for _ in archived.glob("duration.*.parquet"))
    count = measured[0].found[0]
    show(
        f"Percentiles of one route of one hour ({count} durations), of {HOURS} times ten million "
        f"in {rows} archives",
        _COLUMNS,
        [_row("archive", measured)],
    )


_COLUMNS = {"": "", "s": ".2f", "s of a processor": ".2f", "peak MiB": ",.0f"}


def _row(name: str, measured: list[Measured]) -> list[str | float | None]:
    return [
        name,
        statistics.median(each.taken_s for each in measured),
        statistics.median(each.processor_s for each in measured),
        max(each.peak_mib for each in measured),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["repeat"]:
        repeat(Path(sys.argv[2]), HOURS)
    else:
        main()
