"""Prints a summary of recorded data as tables; it formats numbers and computes none."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.table import Table
from rich.text import Text

from aqltelemetry.quantities import counted, mebibytes, milliseconds, number, rate
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.views.summary import Summary, summarize

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def render(db: TelemetryDB, console: Console) -> None:
    """Print the report of all loaded data."""
    summary = summarize(db)
    console.print(_durations_table(summary.durations))
    console.print(_processes_table(summary.processes))
    if not summary.other_series.empty:
        console.print(_values_table(summary.other_series))
    _print_drops(summary, console)


def _print_drops(summary: Summary, console: Console) -> None:
    counts = summary.dropped_by_reason()
    total = counted(sum(counts.values()), "observation")
    if any(counts.values()):
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
        console.print(f"dropped: {total} ({reasons})", style="bold red")
    else:
        console.print(f"dropped: {total}")


def _durations_table(table: pd.DataFrame) -> Table:
    shown = _table("durations, in ms", "label", "count", "per s", "p50", "p95", "p99", "max")
    for label, row in table.iterrows():
        shown.add_row(
            Text(str(label)),
            number(row["count"], 0),
            rate(row["per_second"]),
            *(milliseconds(row[name]) for name in ("p50", "p95", "p99", "max")),
        )
    return shown


def _processes_table(table: pd.DataFrame) -> Table:
    shown = _table(
        "workers",
        *("PID", "durations", "GC runs", "GC pauses", "GC ms", "GC max ms"),
        *("CPU s", "RSS MiB", "RSS max", "lag p99 ms", "lag max ms"),
    )
    for process, row in table.iterrows():
        shown.add_row(
            str(cast("tuple[int, str]", process)[0]),
            *(number(row[name], 0) for name in ("durations", "gc_collections", "gc_pauses")),
            *(milliseconds(row[name], 1) for name in ("gc_pause_s", "gc_pause_max_s")),
            number(row["cpu_s"], 2),
            *(mebibytes(row[name]) for name in ("rss_bytes", "rss_max_bytes")),
            *(milliseconds(row[name], 1) for name in ("lag_p99_s", "lag_max_s")),
        )
    return shown


def _values_table(table: pd.DataFrame) -> Table:
    shown = _table("values", "file prefix, label", "count", "min", "median", "max", "last")
    for series, row in table.iterrows():
        numbers = (f"{row[name]:,.6g}" for name in ("min", "median", "max", "last"))
        name = Text(", ".join(cast("tuple[str, str]", series)))
        shown.add_row(name, number(row["count"], 0), *numbers)
    return shown


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=False, overflow="fold")
    return table
