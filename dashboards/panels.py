"""The charts of the dashboards: each has a query for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Panel(NamedTuple):
    """A chart: its unit, and its queries by engine, each by the name of its lines."""

    title: str
    unit: str
    text: str
    queries: Mapping[str, Mapping[str, str]]


_SHARES = {"p50": "0.5", "p90": "0.9", "p99": "0.99"}
_REQUESTS = "kind <> 'block' AND route IN (${route:singlequote})"
_WORKER = "{{pid}} {{writer}}"
_ROUTE = "{{method}} {{route}}"


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{more}[$__rate_interval]))"


def _share(share: str, metric: str, by: str, more: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'le, {by}', more)})"


def _postgresql(value: str, table: str, where: str, name: str, source: str = "") -> str:
    step = "($__interval_ms * 1000000::bigint)"
    return (
        f'SELECT to_timestamp(at_ns / {step} * $__interval_ms / 1000.0) AS "time", '
        f"{name} AS metric, {value} AS amount "
        f"FROM {source or f'aqltelemetry.{table}'} "
        f"WHERE $__unixEpochNanoFilter(at_ns) AND {where} GROUP BY 1, 2 ORDER BY 1"
    )


def _clickhouse(value: str, table: str, where: str, name: str, source: str = "") -> str:
    return (
        f"SELECT $__timeInterval(at) AS time, {name} AS metric, {value} AS amount "
        f"FROM {source or table} "
        "WHERE at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) "
        f"AND at_ns <= toUnixTimestamp64Nano(toDateTime64($__toTime, 9)) AND {where} "
        "GROUP BY time, metric ORDER BY time"
    )


_PG_ROUTE = "method || ' ' || route"
_PG_WORKER = "pid || ' ' || writer"
_CH_ROUTE = "concat(method, ' ', route)"
_CH_WORKER = "concat(toString(pid), ' ', writer)"
_PG_PER_S = "* 1000.0 / $__interval_ms"
_CH_PER_S = "/ $__interval_s"
# The first sample of each recording is its start; those of the first seconds started before.
_PG_STARTS = (
    "(SELECT min(at_ns) AS at_ns FROM aqltelemetry.runtime WHERE label = 'user time' "
    "AND $__unixEpochNanoFilter(at_ns) GROUP BY writer "
    "HAVING min(at_ns) > $__unixEpochNanoFrom() + 5000000000) AS starts"
)
_CH_STARTS = (
    "(SELECT min(at_ns) AS at_ns, fromUnixTimestamp64Nano(at_ns, 'UTC') AS at FROM ("
    "SELECT writer, at_ns FROM runtime WHERE label = 'user time' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9))) GROUP BY writer "
    "HAVING at_ns > toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) + 5000000000)"
)
_PG_DROPPED = (
    "(SELECT at_ns, label, value - lag(value, 1, 0) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns) AS value FROM aqltelemetry.runtime "
    "WHERE label LIKE 'telemetry dropped %' AND $__unixEpochNanoFilter(at_ns)) AS drops"
)
_CH_DROPPED = (
    "(SELECT at_ns, at, label, value - lagInFrame(value, 1, 0) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS value FROM runtime "
    "WHERE label LIKE 'telemetry dropped %' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)

_PG_USED = (
    "(SELECT at_ns, label, value - lag(value) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns) AS value FROM aqltelemetry.runtime "
    "WHERE label IN ('user time', 'system time') AND $__unixEpochNanoFilter(at_ns)) AS used"
)
_CH_USED = (
    "(SELECT at_ns, at, label, value - lagInFrame(value, 1, value) OVER "
    "(PARTITION BY writer, label ORDER BY at_ns "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS value FROM runtime "
    "WHERE label IN ('user time', 'system time') "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)
_PG_RESTARTS = (
    "(SELECT at_ns, writer, (row_number() OVER (PARTITION BY writer ORDER BY at_ns) = 1 "
    "AND at_ns > $__unixEpochNanoFrom() + 5000000000)::integer AS is_start "
    "FROM aqltelemetry.runtime "
    "WHERE label = 'user time' AND $__unixEpochNanoFilter(at_ns)) AS samples"
)
_CH_RESTARTS = (
    "(SELECT at_ns, at, writer, row_number() OVER (PARTITION BY writer ORDER BY at_ns) = 1 "
    "AND at_ns > toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)) + 5000000000 AS is_start "
    "FROM runtime WHERE label = 'user time' "
    "AND at_ns >= toUnixTimestamp64Nano(toDateTime64($__fromTime, 9)))"
)
_WORKERS = "count(group by (writer) (aqltelemetry_worker_resident_memory_bytes))"
_STARTED = (
    "count(group by (writer) (aqltelemetry_worker_resident_memory_bytes) "
    "unless group by (writer) (aqltelemetry_worker_resident_memory_bytes offset $__interval))"
)
_STALL = "aqltelemetry_worker_stall_seconds"


def _stalls(
    postgresql: str, clickhouse: str, postgresql_name: str, clickhouse_name: str
) -> dict[str, dict[str, str]]:
    where = "prefix = 'stall'"
    return {
        "postgresql": {"": _postgresql(postgresql, "custom", where, postgresql_name)},
        "clickhouse": {"": _clickhouse(clickhouse, "custom", where, clickhouse_name)},
    }


def _sampled(label: str, postgresql: str, clickhouse: str) -> dict[str, dict[str, str]]:
    where = f"label = '{label}'"
    return {
        "postgresql": {"": _postgresql(postgresql, "runtime", where, _PG_WORKER)},
        "clickhouse": {"": _clickhouse(clickhouse, "runtime", where, _CH_WORKER)},
    }


_REQUEST_PANELS = (
    Panel(
        "Requests per second",
        "reqps",
        "By route, of all workers.",
        {
            "prometheus": {
                _ROUTE: _rate(
                    "aqltelemetry_request_duration_seconds_count",
                    "route, method",
                    '{route=~"$route"}',
                )
            },
            "postgresql": {
                "": _postgresql(
                    f"count(*) {_PG_PER_S}", "duration", f"status = '' AND {_REQUESTS}", _PG_ROUTE
                )
            },
            "clickhouse": {
                "": _clickhouse(
                    f"count() {_CH_PER_S}", "duration", f"status = '' AND {_REQUESTS}", _CH_ROUTE
                )
            },
        },
    ),
    Panel(
        "Errors per second",
        "reqps",
        "By route and outcome: 4xx, 5xx, and clients that disconnected early.",
        {
            "prometheus": {
                f"{_ROUTE} {{{{status}}}}": _rate(
                    "aqltelemetry_request_errors_total",
                    "route, method, status",
                    '{route=~"$route"}',
                )
            },
            "postgresql": {
                "": _postgresql(
                    f"count(*) {_PG_PER_S}",
                    "duration",
                    f"status NOT IN ('', 'ttfb') AND {_REQUESTS}",
                    f"{_PG_ROUTE} || ' ' || status",
                )
            },
            "clickhouse": {
                "": _clickhouse(
                    f"count() {_CH_PER_S}",
                    "duration",
                    f"status NOT IN ('', 'ttfb') AND {_REQUESTS}",
                    "concat(method, ' ', route, ' ', status)",
                )
            },
        },
    ),
    *(
        Panel(
            f"Duration of requests, {name}",
            "s",
            "By route. From the head of a request to the last byte of its response.",
            {
                "prometheus": {
                    _ROUTE: _share(
                        share,
                        "aqltelemetry_request_duration_seconds",
                        "route, method",
                        '{route=~"$route"}',
                    )
                },
                "postgresql": {
                    "": _postgresql(
                        f"percentile_cont({share}) WITHIN GROUP (ORDER BY value)",
                        "duration",
                        f"status = '' AND {_REQUESTS}",
                        _PG_ROUTE,
                    )
                },
                "clickhouse": {
                    "": _clickhouse(
                        f"quantile({share})(value)",
                        "duration",
                        f"status = '' AND {_REQUESTS}",
                        _CH_ROUTE,
                    )
                },
            },
        )
        for name, share in _SHARES.items()
    ),
    Panel(
        "Requests in flight",
        "short",
        "By worker.",
        {
            "prometheus": {
                _WORKER: "sum by (pid, writer) (aqltelemetry_worker_requests_in_flight)"
            },
            **_sampled("requests in flight", "max(value)", "max(value)"),
        },
    ),
)
_WORKER_PANELS = (
    Panel(
        "Requests per second, by worker",
        "reqps",
        "An uneven load shows here.",
        {
            "prometheus": {
                # A scrape counts them by worker; remote write has durations by writer.
                _WORKER: "sum by (pid, writer) "
                "(rate(aqltelemetry_worker_requests_total[$__rate_interval]) "
                'or rate(aqltelemetry_request_duration_seconds_count{writer!=""}'
                "[$__rate_interval]))"
            },
            "postgresql": {
                "": _postgresql(
                    f"count(*) {_PG_PER_S}",
                    "duration",
                    "status = '' AND kind = 'request'",
                    _PG_WORKER,
                )
            },
            "clickhouse": {
                "": _clickhouse(
                    f"count() {_CH_PER_S}",
                    "duration",
                    "status = '' AND kind = 'request'",
                    _CH_WORKER,
                )
            },
        },
    ),
    Panel(
        "Event loop lag, p99",
        "s",
        "By worker: how late the event loop runs, measured ten times a second.",
        {
            "prometheus": {
                _WORKER: _share("0.99", "aqltelemetry_worker_event_loop_lag_seconds", "pid, writer")
            },
            **_sampled(
                "event loop lag",
                "percentile_cont(0.99) WITHIN GROUP (ORDER BY value)",
                "quantile(0.99)(value)",
            ),
        },
    ),
    Panel(
        "Pauses of the garbage collector",
        "percentunit",
        "By worker: the share of the time in which the collector ran.",
        {
            "prometheus": {
                _WORKER: _rate("aqltelemetry_worker_gc_pause_seconds_sum", "pid, writer")
            },
            **_sampled("gc pause", f"sum(value) {_PG_PER_S}", f"sum(value) {_CH_PER_S}"),
        },
    ),
    Panel(
        "Processor time",
        "percent",
        "By worker, in percent of one processor.",
        {
            "prometheus": {
                _WORKER: f"100 * {_rate('aqltelemetry_worker_cpu_seconds_total', 'pid, writer')}"
            },
            **_sampled("cpu percent", "avg(value)", "avg(value)"),
        },
    ),
    Panel(
        "Processor time, by mode",
        "percent",
        "In the program (user) and in the kernel (system), in percent of one processor.",
        {
            "prometheus": {
                "{{mode}}": f"100 * {_rate('aqltelemetry_worker_cpu_seconds_total', 'mode')}"
            },
            "postgresql": {
                "": _postgresql(f"100 * sum(value) {_PG_PER_S}", "", "true", "label", _PG_USED)
            },
            "clickhouse": {
                "": _clickhouse(f"100 * sum(value) {_CH_PER_S}", "", "true", "label", _CH_USED)
            },
        },
    ),
    Panel(
        "Resident memory",
        "bytes",
        "By worker.",
        {
            "prometheus": {
                _WORKER: "sum by (pid, writer) (aqltelemetry_worker_resident_memory_bytes)"
            },
            **_sampled("rss", "max(value)", "max(value)"),
        },
    ),
    Panel(
        "Open file descriptors",
        "short",
        "By worker.",
        {
            "prometheus": {_WORKER: "sum by (pid, writer) (aqltelemetry_worker_open_fds)"},
            **_sampled("open fds", "max(value)", "max(value)"),
        },
    ),
    Panel(
        "Workers that started and ended",
        "short",
        "With remote write, the ends are not known.",
        {
            "prometheus": {
                "started": _STARTED,
                "{{end}}": "sum by (end) (increase(aqltelemetry_worker_ends_total"
                "[$__rate_interval]))",
            },
            "postgresql": {
                "": _postgresql(
                    "count(*)",
                    "account",
                    "label = 'end'",
                    "CASE value WHEN 1 THEN 'stopped' ELSE 'killed' END",
                ),
                "started": _postgresql("count(*)", "", "true", "'started'", _PG_STARTS),
            },
            "clickhouse": {
                "": _clickhouse(
                    "count()", "account", "label = 'end'", "if(value = 1, 'stopped', 'killed')"
                ),
                "started": _clickhouse("count()", "", "true", "'started'", _CH_STARTS),
            },
        },
    ),
    Panel(
        "Restarts per worker",
        "short",
        "Recordings that started, divided by those that were there.",
        {
            "prometheus": {"restarts": f"{_STARTED} / {_WORKERS}"},
            "postgresql": {
                "": _postgresql(
                    "sum(is_start)::double precision / count(DISTINCT writer)",
                    "",
                    "true",
                    "'restarts'",
                    _PG_RESTARTS,
                )
            },
            "clickhouse": {
                "": _clickhouse(
                    "sum(is_start) / uniqExact(writer)", "", "true", "'restarts'", _CH_RESTARTS
                )
            },
        },
    ),
)
_STALL_PANELS = (
    Panel(
        "Stalls per minute",
        "short",
        "By cause, of all workers together.",
        {
            "prometheus": {"{{cause}}": f"60 * {_rate(f'{_STALL}_count', 'cause')}"},
            **_stalls(
                "count(*) * 60000.0 / $__interval_ms",
                "count() * 60 / $__interval_s",
                "label",
                "label",
            ),
        },
    ),
    Panel(
        "Longest stall",
        "s",
        "By cause. Prometheus knows the upper bound of its bucket, which is at most 30 s.",
        {
            "prometheus": {"{{cause}}": _share("1", _STALL, "cause")},
            **_stalls("max(value)", "max(value)", "label", "label"),
        },
    ),
    Panel(
        "Time in stalls, by cause",
        "percentunit",
        "All workers together: 100 % is one event loop or thread that always stands still.",
        {
            "prometheus": {"{{cause}}": _rate(f"{_STALL}_sum", "cause")},
            **_stalls(f"sum(value) {_PG_PER_S}", f"sum(value) {_CH_PER_S}", "label", "label"),
        },
    ),
    Panel(
        "Time in stalls, by worker",
        "percentunit",
        "The share of the time in which the event loop, or requests on threads, stood still.",
        {
            "prometheus": {_WORKER: _rate(f"{_STALL}_sum", "pid, writer")},
            **_stalls(f"sum(value) {_PG_PER_S}", f"sum(value) {_CH_PER_S}", _PG_WORKER, _CH_WORKER),
        },
    ),
)
_RECORDING_PANELS = (
    Panel(
        "Workers that record",
        "short",
        "Recordings from which something came.",
        {
            "prometheus": {"workers": _WORKERS},
            "postgresql": {
                "": _postgresql(
                    "count(DISTINCT writer)", "runtime", "label = 'user time'", "'workers'"
                )
            },
            "clickhouse": {
                "": _clickhouse("uniqExact(writer)", "runtime", "label = 'user time'", "'workers'")
            },
        },
    ),
    Panel(
        "Observations that were dropped, per second",
        "cps",
        "By reason, of all workers. It should be empty.",
        {
            "prometheus": {
                "{{reason}}": _rate("aqltelemetry_worker_dropped_observations_total", "reason")
            },
            "postgresql": {
                "": _postgresql(f"sum(value) {_PG_PER_S}", "", "true", "label", _PG_DROPPED)
            },
            "clickhouse": {
                "": _clickhouse(f"sum(value) {_CH_PER_S}", "", "true", "label", _CH_DROPPED)
            },
        },
    ),
)

SECTIONS: Mapping[str, Sequence[Panel]] = {
    "Requests": _REQUEST_PANELS,
    "Workers": _WORKER_PANELS,
    "Stalls": _STALL_PANELS,
    "Recording": _RECORDING_PANELS,
}
"""The charts by the row of the dashboard that they are in."""
