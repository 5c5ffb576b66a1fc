"""Runs SQL over loaded observations, with DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.reading.rows import Rows
from aqltelemetry.system.later import pd


def run(query: str, tables: Iterable[str], rows: Callable[[str], Rows]) -> pd.DataFrame:
    """Return the result of a query over those tables whose names it contains."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("sql", exc) from exc
    with duckdb.connect() as connection:
        for table in tables:
            if re.search(re.escape(table), query, re.IGNORECASE):
                connection.register(table, rows(table).frame)
        found: pd.DataFrame = connection.sql(query).df()
    return found
