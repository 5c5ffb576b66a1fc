"""The parts of the queries of the dashboards, in the languages of the engines."""

from __future__ import annotations

SHARES = {"p50": "0.5", "p90": "0.9", "p99": "0.99"}
REQUESTS = "kind <> 'block' AND route IN (${route:singlequote})"
WORKER = "{{pid}} {{writer}}"
ROUTE = "{{method}} {{route}}"


def rate(metric: str, by: str, more: str = "") -> str:
    """Return how fast a counter of Prometheus grows, added up by labels."""
    return f"sum by ({by}) (rate({metric}{more}[$__rate_interval]))"


def share(share: str, metric: str, by: str, more: str = "") -> str:
    """Return a quantile of a histogram of Prometheus, by labels."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}', more)})"


def in_postgresql(value: str, table: str, where: str, name: str, source: str = "") -> str:
    """Return a query of PostgreSQL: a value by time and name, of a table or another source."""
    step = "($__interval_ms * 1000000::bigint)"
    return (
        f'SELECT to_timestamp(at_ns / {step} * $__interval_ms / 1000.0) AS "time", '
        f"{name} AS metric, {value} AS amount "
        f"FROM {source or f'aqltelemetry.{table}'} "
        f"WHERE $__unixEpochNanoFilter(at_ns) AND {where} GROUP BY 1, 2 ORDER BY 1"
    )


def in_clickhouse(value: str, table: str, where: str, name: str, source: str = "") -> str:
    """Return a query of ClickHouse, as `in_postgresql`."""
    return (
        f"SELECT $__timeInterval(at) AS time, {name} AS metric, {value} AS amount "
        f"FROM {source or table} "
        "WHERE at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) "
        f"AND at_ns <= toUnixTimestamp64Nano(toDateTime64($__toTime, 9)) AND {where} "
        "GROUP BY time, metric ORDER BY time"
    )


PG_ROUTE = "method || ' ' || route"
PG_WORKER = "pid || ' ' || writer"
CH_ROUTE = "concat(method, ' ', route)"
CH_WORKER = "concat(toString(pid), ' ', writer)"
PG_PER_S = "* 1000.0 / $__interval_ms"
CH_PER_S = "/ $__interval_s"
# The first sample of each recording is its start; those of the first seconds started before.
PG_STARTS = (
    "(SELECT min(at_ns) AS at_ns FROM aqltelemetry.runtime WHERE label = 'user time' "
    "AND $__unixEpochNanoFilter(at_ns) GROUP BY writer "
    "HAVING min(at_ns) > $__unixEpochNanoFrom() + 5000000000) AS starts"
)
CH_STARTS = (
    "(SELECT min(at_ns) AS at_ns, fromUnixTimestamp64Nano(at_ns, 'UTC') AS at FROM ("
    "SELECT writer, at_ns FROM runtime WHERE label = 'user time' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9))) GROUP BY writer "
    "HAVING at_ns > toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) + 5000000000)"
)
PG_DROPPED = (
    "(SELECT at_ns, label, value - lag(value, 1, 0) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns) AS value FROM aqltelemetry.runtime "
    "WHERE label LIKE 'telemetry dropped %' AND $__unixEpochNanoFilter(at_ns)) AS drops"
)
CH_DROPPED = (
    "(SELECT at_ns, at, label, value - lagInFrame(value, 1, 0) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS value FROM runtime "
    "WHERE label LIKE 'telemetry dropped %' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)

PG_USED = (
    "(SELECT at_ns, label, value - lag(value) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns) AS value FROM aqltelemetry.runtime "
    "WHERE label IN ('user time', 'system time') AND $__unixEpochNanoFilter(at_ns)) AS used"
)
CH_USED = (
    "(SELECT at_ns, at, label, value - lagInFrame(value, 1, value) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS value FROM runtime "
    "WHERE label IN ('user time', 'system time') "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)
PG_RESTARTS = (
    "(SELECT at_ns, writer, (row_number() OVER (PARTITION BY writer ORDER BY at_ns) = 1 "
    "AND at_ns > $__unixEpochNanoFrom() + 5000000000)::integer AS is_start "
    "FROM aqltelemetry.runtime "
    "WHERE label = 'user time' AND $__unixEpochNanoFilter(at_ns)) AS samples"
)
CH_RESTARTS = (
    "(SELECT at_ns, at, writer, row_number() OVER (PARTITION BY writer ORDER BY at_ns) = 1 "
    "AND at_ns > toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) + 5000000000 AS is_start "
    "FROM runtime WHERE label = 'user time' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)
WORKERS = "count(group by (writer) (aqltelemetry_worker_resident_memory_bytes))"
STARTED = (
    "count(group by (writer) (aqltelemetry_worker_resident_memory_bytes) "
    "unless group by (writer) (aqltelemetry_worker_resident_memory_bytes offset $__interval))"
)
STALL = "aqltelemetry_worker_stall_seconds"


def stalls(
    postgresql: str, clickhouse: str, postgresql_name: str, clickhouse_name: str
) -> dict[str, dict[str, str]]:
    """Return the queries of stalls: their values and the names of their lines."""
    where = "prefix = 'stall'"
    return {
        "postgresql": {"": in_postgresql(postgresql, "custom", where, postgresql_name)},
        "clickhouse": {"": in_clickhouse(clickhouse, "custom", where, clickhouse_name)},
    }


def sampled(label: str, postgresql: str, clickhouse: str) -> dict[str, dict[str, str]]:
    """Return the queries of a sampled label, by worker."""
    where = f"label = '{label}'"
    return {
        "postgresql": {"": in_postgresql(postgresql, "runtime", where, PG_WORKER)},
        "clickhouse": {"": in_clickhouse(clickhouse, "runtime", where, CH_WORKER)},
    }
