"""Write the dashboards for Grafana: `python dashboards/make.py`.

The charts and their queries are in `panels.py`. A test runs all queries on the real engines, and
compares the files with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from panels import SECTIONS, Panel

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
        "panels": [*_panels(name, engine, source)],
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


def _panels(name: str, engine: Engine, source: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield each row and its charts, two side by side."""
    numbers = count(1)
    top = 0
    for title, panels in SECTIONS.items():
        yield {
            "id": next(numbers),
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
            "panels": [],
        }
        top += 1
        for at, panel in enumerate(panels):
            place = {
                "h": _HEIGHT,
                "w": _WIDTH,
                "x": at * _WIDTH % _COLUMNS,
                "y": top + at * _WIDTH // _COLUMNS * _HEIGHT,
            }
            yield {
                "id": next(numbers),
                **_panel(panel, engine, panel.queries[name], source),
                "gridPos": place,
            }
        top += ceil(len(panels) * _WIDTH / _COLUMNS) * _HEIGHT


def _panel(
    panel: Panel, engine: Engine, queries: Mapping[str, str], source: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": source,
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


if __name__ == "__main__":
    for file, text in files().items():
        (HERE / file).write_text(text)
