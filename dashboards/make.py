"""Write the dashboards for Grafana: `python dashboards/make.py`.

Each panel has a query for each engine. A test runs all of them on the real engines, and compares
the files with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
_HEIGHT, _WIDTH = 8, 12
_COLUMNS = 24


class Engine(NamedTuple):
    """Where a dashboard's queries run: the plugin, and how a query is put into a panel."""

    title: str
    plugin: str
    routes: str
    key: str
    fixed: Mapping[str, Any]


class Panel(NamedTuple):
    """A chart: its unit, and its queries by engine, each by the name of its lines."""

    title: str
    unit: str
    text: str
    queries: Mapping[str, Mapping[str, str]]


ENGINES = {
    "prometheus": Engine(
        "Prometheus and VictoriaMetrics",
        "prometheus",
        "label_values(aqltelemetry_request_duration_seconds_count, route)",
        "expr",
        {"editorMode": "code", "range": True},
    ),
    "postgresql": Engine(
        "PostgreSQL and TimescaleDB",
        "grafana-postgresql-datasource",
        "SELECT DISTINCT route FROM aqltelemetry.label WHERE kind <> 'block' ORDER BY 1",
        "rawSql",
        {"editorMode": "code", "format": "time_series", "rawQuery": True},
    ),
    "clickhouse": Engine(
        "ClickHouse",
        "grafana-clickhouse-datasource",
        "SELECT DISTINCT route FROM duration WHERE kind <> 'block' ORDER BY 1",
        "rawSql",
        {"editorType": "sql", "format": 0, "queryType": "timeseries"},
    ),
}
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


def _sampled(label: str, postgresql: str, clickhouse: str) -> dict[str, dict[str, str]]:
    where = f"label = '{label}'"
    return {
        "postgresql": {"": _postgresql(postgresql, "runtime", where, _PG_WORKER)},
        "clickhouse": {"": _clickhouse(clickhouse, "runtime", where, _CH_WORKER)},
    }


PANELS = (
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
        "Workers that started and ended",
        "short",
        "With remote write, the ends are not known.",
        {
            "prometheus": {
                "started": "count(group by (writer) (aqltelemetry_worker_resident_memory_bytes) "
                "unless group by (writer) "
                "(aqltelemetry_worker_resident_memory_bytes offset $__interval))",
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


def dashboard(name: str) -> dict[str, Any]:
    """Return the dashboard of an engine."""
    engine = ENGINES[name]
    source = {"type": engine.plugin, "uid": "${datasource}"}
    return {
        "title": f"aqltelemetry: {engine.title}",
        "uid": f"aqltelemetry-{name}",
        "tags": ["aqltelemetry"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_sources(engine), _routes(engine, source)]},
        "panels": [
            _panel(number, panel, engine, panel.queries[name], source)
            for number, panel in enumerate(PANELS)
        ],
    }


def _sources(engine: Engine) -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": engine.plugin,
    }


def _routes(engine: Engine, source: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": "route",
        "label": "Route",
        "type": "query",
        "datasource": source,
        "query": engine.routes,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        **({"allValue": ".*"} if engine.key == "expr" else {}),
    }


def _panel(
    number: int,
    panel: Panel,
    engine: Engine,
    queries: Mapping[str, str],
    source: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": source,
        "gridPos": {
            "h": _HEIGHT,
            "w": _WIDTH,
            "x": number * _WIDTH % _COLUMNS,
            "y": number * _WIDTH // _COLUMNS * _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [*_targets(engine, queries, source)],
    }


def _targets(
    engine: Engine, queries: Mapping[str, str], source: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for number, (legend, query) in enumerate(queries.items()):
        target = {"refId": chr(ord("A") + number), "datasource": source, engine.key: query}
        if engine.key == "expr":
            target["legendFormat"] = legend
        yield {**target, **engine.fixed}


def files() -> Mapping[str, str]:
    """Return the text of each file by its name."""
    return {f"{name}.json": json.dumps(dashboard(name), indent=2) + "\n" for name in ENGINES}


def queries(name: str) -> Sequence[tuple[str, str]]:
    """Return the title of the panel and the text of each query of an engine."""
    return [(panel.title, query) for panel in PANELS for query in panel.queries[name].values()]


if __name__ == "__main__":
    for file, text in files().items():
        (HERE / file).write_text(text)
