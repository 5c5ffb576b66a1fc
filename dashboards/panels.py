"""The charts of the dashboards: each has a query for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dashboard_queries import (
    CH_DROPPED,
    CH_PER_S,
    CH_RESTARTS,
    CH_ROUTE,
    CH_STARTS,
    CH_USED,
    CH_WORKER,
    PG_DROPPED,
    PG_PER_S,
    PG_RESTARTS,
    PG_ROUTE,
    PG_STARTS,
    PG_USED,
    PG_WORKER,
    REQUESTS,
    ROUTE,
    SHARES,
    STALL,
    STARTED,
    WORKER,
    WORKERS,
    in_clickhouse,
    in_postgresql,
    rate,
    sampled,
    share,
    stalls,
)


class Panel(NamedTuple):
    """A chart: its unit, and its queries by engine, each by the name of its lines."""

    title: str
    unit: str
    text: str
    queries: Mapping[str, Mapping[str, str]]


_REQUEST_PANELS = (
    Panel(
        "Requests per second",
        "reqps",
        "By route, of all workers.",
        {
            "prometheus": {
                ROUTE: rate(
                    "aqltelemetry_request_duration_seconds_count",
                    "route, method",
                    '{route=~"$route"}',
                )
            },
            "postgresql": {
                "": in_postgresql(
                    f"count(*) {PG_PER_S}", "duration", f"status = '' AND {REQUESTS}", PG_ROUTE
                )
            },
            "clickhouse": {
                "": in_clickhouse(
                    f"count() {CH_PER_S}", "duration", f"status = '' AND {REQUESTS}", CH_ROUTE
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
                f"{ROUTE} {{{{status}}}}": rate(
                    "aqltelemetry_request_errors_total",
                    "route, method, status",
                    '{route=~"$route"}',
                )
            },
            "postgresql": {
                "": in_postgresql(
                    f"count(*) {PG_PER_S}",
                    "duration",
                    f"status NOT IN ('', 'ttfb') AND {REQUESTS}",
                    f"{PG_ROUTE} || ' ' || status",
                )
            },
            "clickhouse": {
                "": in_clickhouse(
                    f"count() {CH_PER_S}",
                    "duration",
                    f"status NOT IN ('', 'ttfb') AND {REQUESTS}",
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
                    ROUTE: share(
                        part,
                        "aqltelemetry_request_duration_seconds",
                        "route, method",
                        '{route=~"$route"}',
                    )
                },
                "postgresql": {
                    "": in_postgresql(
                        f"percentile_cont({part}) WITHIN GROUP (ORDER BY value)",
                        "duration",
                        f"status = '' AND {REQUESTS}",
                        PG_ROUTE,
                    )
                },
                "clickhouse": {
                    "": in_clickhouse(
                        f"quantile({part})(value)",
                        "duration",
                        f"status = '' AND {REQUESTS}",
                        CH_ROUTE,
                    )
                },
            },
        )
        for name, part in SHARES.items()
    ),
    Panel(
        "Requests in flight",
        "short",
        "By worker.",
        {
            "prometheus": {WORKER: "sum by (pid, writer) (aqltelemetry_worker_requests_in_flight)"},
            **sampled("requests in flight", "max(value)", "max(value)"),
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
                WORKER: "sum by (pid, writer) "
                "(rate(aqltelemetry_worker_requests_total[$__rate_interval]) "
                'or rate(aqltelemetry_request_duration_seconds_count{writer!=""}'
                "[$__rate_interval]))"
            },
            "postgresql": {
                "": in_postgresql(
                    f"count(*) {PG_PER_S}",
                    "duration",
                    "status = '' AND kind = 'request'",
                    PG_WORKER,
                )
            },
            "clickhouse": {
                "": in_clickhouse(
                    f"count() {CH_PER_S}",
                    "duration",
                    "status = '' AND kind = 'request'",
                    CH_WORKER,
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
                WORKER: share("0.99", "aqltelemetry_worker_event_loop_lag_seconds", "pid, writer")
            },
            **sampled(
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
            "prometheus": {WORKER: rate("aqltelemetry_worker_gc_pause_seconds_sum", "pid, writer")},
            **sampled("gc pause", f"sum(value) {PG_PER_S}", f"sum(value) {CH_PER_S}"),
        },
    ),
    Panel(
        "Processor time",
        "percent",
        "By worker, in percent of one processor.",
        {
            "prometheus": {
                WORKER: f"100 * {rate('aqltelemetry_worker_cpu_seconds_total', 'pid, writer')}"
            },
            **sampled("cpu percent", "avg(value)", "avg(value)"),
        },
    ),
    Panel(
        "Processor time, by mode",
        "percent",
        "In the program (user) and in the kernel (system), in percent of one processor.",
        {
            "prometheus": {
                "{{mode}}": f"100 * {rate('aqltelemetry_worker_cpu_seconds_total', 'mode')}"
            },
            "postgresql": {
                "": in_postgresql(f"100 * sum(value) {PG_PER_S}", "", "true", "label", PG_USED)
            },
            "clickhouse": {
                "": in_clickhouse(f"100 * sum(value) {CH_PER_S}", "", "true", "label", CH_USED)
            },
        },
    ),
    Panel(
        "Resident memory",
        "bytes",
        "By worker.",
        {
            "prometheus": {
                WORKER: "sum by (pid, writer) (aqltelemetry_worker_resident_memory_bytes)"
            },
            **sampled("rss", "max(value)", "max(value)"),
        },
    ),
    Panel(
        "Open file descriptors",
        "short",
        "By worker.",
        {
            "prometheus": {WORKER: "sum by (pid, writer) (aqltelemetry_worker_open_fds)"},
            **sampled("open fds", "max(value)", "max(value)"),
        },
    ),
    Panel(
        "Workers that started and ended",
        "short",
        "With remote write, the ends are not known.",
        {
            "prometheus": {
                "started": STARTED,
                "{{end}}": "sum by (end) (increase(aqltelemetry_worker_ends_total"
                "[$__rate_interval]))",
            },
            "postgresql": {
                "": in_postgresql(
                    "count(*)",
                    "account",
                    "label = 'end'",
                    "CASE value WHEN 1 THEN 'stopped' ELSE 'killed' END",
                ),
                "started": in_postgresql("count(*)", "", "true", "'started'", PG_STARTS),
            },
            "clickhouse": {
                "": in_clickhouse(
                    "count()", "account", "label = 'end'", "if(value = 1, 'stopped', 'killed')"
                ),
                "started": in_clickhouse("count()", "", "true", "'started'", CH_STARTS),
            },
        },
    ),
    Panel(
        "Restarts per worker",
        "short",
        "Recordings that started, divided by those that were there.",
        {
            "prometheus": {"restarts": f"{STARTED} / {WORKERS}"},
            "postgresql": {
                "": in_postgresql(
                    "sum(is_start)::double precision / count(DISTINCT writer)",
                    "",
                    "true",
                    "'restarts'",
                    PG_RESTARTS,
                )
            },
            "clickhouse": {
                "": in_clickhouse(
                    "sum(is_start) / uniqExact(writer)", "", "true", "'restarts'", CH_RESTARTS
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
            "prometheus": {"{{cause}}": f"60 * {rate(f'{STALL}_count', 'cause')}"},
            **stalls(
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
            "prometheus": {"{{cause}}": share("1", STALL, "cause")},
            **stalls("max(value)", "max(value)", "label", "label"),
        },
    ),
    Panel(
        "Time in stalls, by cause",
        "percentunit",
        "All workers together: 100 % is one event loop or thread that always stands still.",
        {
            "prometheus": {"{{cause}}": rate(f"{STALL}_sum", "cause")},
            **stalls(f"sum(value) {PG_PER_S}", f"sum(value) {CH_PER_S}", "label", "label"),
        },
    ),
    Panel(
        "Time in stalls, by worker",
        "percentunit",
        "The share of the time in which the event loop, or requests on threads, stood still.",
        {
            "prometheus": {WORKER: rate(f"{STALL}_sum", "pid, writer")},
            **stalls(f"sum(value) {PG_PER_S}", f"sum(value) {CH_PER_S}", PG_WORKER, CH_WORKER),
        },
    ),
)
_RECORDING_PANELS = (
    Panel(
        "Workers that record",
        "short",
        "Recordings from which something came.",
        {
            "prometheus": {"workers": WORKERS},
            "postgresql": {
                "": in_postgresql(
                    "count(DISTINCT writer)", "runtime", "label = 'user time'", "'workers'"
                )
            },
            "clickhouse": {
                "": in_clickhouse(
                    "uniqExact(writer)", "runtime", "label = 'user time'", "'workers'"
                )
            },
        },
    ),
    Panel(
        "Observations that were dropped, per second",
        "cps",
        "By reason, of all workers. It should be empty.",
        {
            "prometheus": {
                "{{reason}}": rate("aqltelemetry_worker_dropped_observations_total", "reason")
            },
            "postgresql": {
                "": in_postgresql(f"sum(value) {PG_PER_S}", "", "true", "label", PG_DROPPED)
            },
            "clickhouse": {
                "": in_clickhouse(f"sum(value) {CH_PER_S}", "", "true", "label", CH_DROPPED)
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
