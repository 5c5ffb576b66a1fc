"""What the size of an observation means for a fleet: the arithmetic of docs/scale.md.

`make bench` writes the tables of the page from the results of `sizes` and `shipping`. A test
compares the page with the results, and computes its tables again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _document import put, table

SCALE = Path(__file__).parent.parent / "docs" / "scale.md"
HOSTS = 1_000
WORKERS = 8
REQUESTS_PER_S = 2_000
ROWS_PER_REQUEST = 2.01
"""A duration, a time to the first byte, and one more row for a failure in a hundred."""
ROWS_PER_S = WORKERS * REQUESTS_PER_S * ROWS_PER_REQUEST
"""Of a host."""
DAY_S = 86_400
FILES_PER_MINUTE = 1
"""Of a worker: its file is published when it is a minute old, or would exceed 16 MiB."""
SHIPMENT_BYTES = 128 << 20
"""From which size on a shipment to ClickHouse gets no further file."""
CLICKHOUSE, PARQUET = "aqltelemetry ship, to ClickHouse", "aqltelemetry ship, to Parquet"
"""The lines of the table of throughput that the arithmetic uses."""


def fleet_table(bytes_per_row: Mapping[str, float]) -> str:
    """Return the table of what each form takes, of a host and of all hosts, as Markdown."""
    columns = ["form", "a host, MB/s", "a host, Mbit/s", "a host, GB a day", "the fleet, TB a day"]
    return table(columns, [_line(form, size) for form, size in bytes_per_row.items()])


def _line(form: str, row_bytes: float) -> list[str]:
    bytes_per_s = ROWS_PER_S * row_bytes
    return [
        form,
        _figure(bytes_per_s / 1e6, 2),
        _figure(bytes_per_s * 8 / 1e6, 1),
        _figure(bytes_per_s * DAY_S / 1e9, 0),
        _figure(bytes_per_s * DAY_S * HOSTS / 1e12, 0),
    ]


def _figure(value: float, decimals: int) -> str:
    """Return a number with some decimals, or with two digits if these would be fewer."""
    has_two_digits = value * 10**decimals >= 10
    return f"{value:.{decimals}f}" if has_two_digits else f"{value:.2g}"


def rates_table(csv_bytes: float, rows_per_core_s: Mapping[str, float]) -> str:
    """Return the table of rates, as Markdown.

    Args:
        csv_bytes: The size of a row of CSV.
        rows_per_core_s: Rows that are shipped in a second of processor time, by `CLICKHOUSE`
            and `PARQUET`.
    """
    fleet_rows = ROWS_PER_S * HOSTS
    shipments = fleet_rows * csv_bytes / SHIPMENT_BYTES
    rows = [
        ["requests per second", f"{WORKERS * REQUESTS_PER_S:,}", _fleet(WORKERS * REQUESTS_PER_S)],
        ["observations per second", f"{ROWS_PER_S:,.0f}", _fleet(ROWS_PER_S)],
        ["observations a day", f"{ROWS_PER_S * DAY_S / 1e9:.2f} billion", _days(fleet_rows)],
        ["files per minute", f"{WORKERS * FILES_PER_MINUTE}", _fleet(WORKERS * FILES_PER_MINUTE)],
        [
            "INSERTs into ClickHouse per minute",
            f"{shipments * 60 / HOSTS:.2f}",
            _per_minute(shipments),
        ],
        ["processors that INSERT into ClickHouse", *_cores(rows_per_core_s[CLICKHOUSE])],
        ["processors that write Parquet", *_cores(rows_per_core_s[PARQUET])],
    ]
    return table(["", "a host", "the fleet"], rows)


def rates_of(page: str) -> str:
    """Return the table of rates that follows from the two measured tables of the page."""
    throughput = cells(between(page, "throughput"))
    rates = {name: float(throughput[name][1]) * 1e6 for name in (CLICKHOUSE, PARQUET)}
    return rates_table(float(cells(between(page, "sizes"))["CSV"][0]), rates)


def tables_of(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of the page by their names, of results as in `_collect`."""
    sizes, throughput = measured(results["sizes"]), measured(results["shipping"])
    bytes_per_row = {form: float(row[0]) for form, row in cells(sizes).items()}
    return {"sizes": sizes, "fleet": fleet_table(bytes_per_row), "throughput": throughput}


def measured(result: Mapping[str, Any]) -> str:
    """Return the first table of a benchmark, below the machine that it ran on, as Markdown."""
    first = result["tables"][0]
    return f"{'; '.join(result['machine'])}.\n\n{table(first['columns'], first['cells'])}"


def write_page(results: Mapping[str, Any]) -> None:
    """Write the tables of the page that follow from the results, if there are all of them."""
    if not {"sizes", "shipping"} <= results.keys():
        return
    for name, text in tables_of(results).items():
        put(SCALE, name, text)
    put(SCALE, "rates", rates_of(SCALE.read_text()))


def _fleet(of_a_host: float) -> str:
    return f"{of_a_host * HOSTS:,.0f}"


def _days(rows_per_s: float) -> str:
    return f"{rows_per_s * DAY_S / 1e12:.2f} trillion"


def _per_minute(per_s: float) -> str:
    return f"{per_s * 60:,.0f}"


def _cores(rows_per_core_s: float) -> tuple[str, str]:
    cores = ROWS_PER_S / rows_per_core_s
    return f"{cores:.3f}", f"{cores * HOSTS:.0f}"


def cells(markdown: str) -> dict[str, list[str]]:
    """Return the cells of a table of Markdown after the first one, by the first one."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows[2:]}


def between(page: str, name: str) -> str:
    """Return what a page has between the markers of a name."""
    return page.partition(f"<!-- {name}: ")[2].partition("-->")[2].partition("<!-- end")[0]
