"""Runs SQL over loaded observations, with DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from aqltelemetry.errors import MissingExtraError
from aqltelemetry.system.later import pd


def run(query: str, tables: Mapping[str, Callable[[], pd.DataFrame]]) -> pd.DataFrame:
    """Return the result of a query over those tables whose names it contains."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("sql", exc) from exc
    with duckdb.connect() as connection:
        for name, table in tables.items():
            # Not as a part of another name, such as `duration` of `rollup_duration`.
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query, re.IGNORECASE):
                connection.register(name, table())
        found: pd.DataFrame = connection.sql(query).df()
    return found
