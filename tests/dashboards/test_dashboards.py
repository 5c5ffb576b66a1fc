"""Each query of the dashboards is run on the real engine, on what was shipped or scraped."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.destination import ShippedFile
from aqltelemetry.shipping.target import Target
from aqltelemetry.views.metrics.routes import add_metrics
from clickhouse_server import clickhouse_server
from monitoring import Engine, prometheus
from pages import ROOT
from postgres import Server
from shipments import Row, publish, shipment

_FILES = ROOT / "dashboards"
_S = 1_000_000_000
_ENGINES = ("clickhouse", "postgresql", "prometheus")
_COLUMNS = 24
_ROWS = ["Requests", "Workers", "Stalls", "Recording"]
_TITLES = {
    *("Requests per second", "Requests per second, by worker", "Errors per second"),
    *(f"Duration of requests, {share}" for share in ("p50", "p90", "p99")),
    *("Event loop lag, p99", "Pauses of the garbage collector", "Resident memory"),
    *("Processor time", "Processor time, by mode", "Open file descriptors"),
    *("Workers that started and ended", "Restarts per worker"),
    *("Stalls per minute", "Time in stalls, by cause", "Time in stalls, by worker"),
}
# Ids in `grafana-data/src/valueFormats/categories.ts`.
_UNITS = {"reqps", "cps", "s", "short", "percent", "percentunit", "bytes"}


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboards", _FILES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _queries(engine: str) -> dict[str, str]:
    """Return the queries of a dashboard's file by panel and target."""
    dashboard = json.loads((_FILES / f"{engine}.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target.get("expr") or target["rawSql"]
        for panel in _charts(dashboard)
        for target in panel["targets"]
    }


def test_the_files_are_those_that_the_program_writes() -> None:
    for name, text in _maker().files().items():
        assert (_FILES / name).read_text() == text


def _dashboard(engine: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_FILES / f"{engine}.json").read_text())
    return found


def _charts(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("engine", _ENGINES)
def test_panels_have_a_number_and_a_place_of_their_own(engine: str) -> None:
    panels = _dashboard(engine)["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len({*numbers}) == len(numbers)
    assert min(numbers) > 0
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= _COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        taken |= cells
    # Grafana moves panels up, so that a gap would not stay.
    assert {y for _, y in taken} == {*range(max(y for _, y in taken) + 1)}


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_dashboard_has_what_grafana_needs(engine: str) -> None:
    dashboard = _dashboard(engine)
    assert dashboard["uid"] == f"aqltelemetry-{engine}"
    assert len(dashboard["uid"]) <= 40
    assert dashboard["schemaVersion"] >= 39
    assert "id" not in dashboard  # the database's own: an import with one fails
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    plugin = variables["datasource"]["query"]
    source = {"type": plugin, "uid": "${datasource}"}
    assert variables["route"]["datasource"] == source
    text = json.dumps(dashboard["panels"])
    used = {*re.findall(r"\$\{?([a-z]\w*)", text)}
    assert used == {*variables}
    for panel in _charts(dashboard):
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == [*"ABC"[: len(letters)]]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS


@pytest.mark.parametrize("engine", _ENGINES)
def test_what_is_to_be_seen_of_a_worker_is_there(engine: str) -> None:
    titles = {panel["title"] for panel in _charts(_dashboard(engine))}
    assert titles >= _TITLES
    rows = [panel for panel in _dashboard(engine)["panels"] if panel["type"] == "row"]
    assert [row["title"] for row in rows] == _ROWS
    assert all(row["panels"] == [] and not row["collapsed"] for row in rows)


def _rows(start_ns: int, writer: int, seconds: int) -> dict[str, list[Row]]:
    """Return what a worker that is killed at the end records, by prefix."""
    durations, samples = [], []
    for second in range(seconds):
        at_ns = start_ns + second * _S
        durations += [(at_ns + n, f"0.0{n + 1}", "/a [GET]", writer) for n in range(5)]
        durations.append((at_ns + 4, "0.05", "/a [GET] 5xx", writer))
        values = {
            "user time": second * 0.5,
            "system time": second * 0.1,
            "cpu percent": 60,
            "rss": 1e8 + second,
            "requests in flight": second % 3,
            "event loop lag": 0.002,
            "gc pause": 0.01,
            "gc pause gen2": 0.01,
            "telemetry dropped no segment": second,
            "open fds": 12,
        }
        samples += [(at_ns + 9, repr(value), label, writer) for label, value in values.items()]
    end_ns = start_ns + seconds * _S
    account = [(end_ns, "100", "accepted", writer), (end_ns, "0", "end", writer)]
    stalls = [
        (start_ns + 5 * _S, "0.5", "blocking I/O", writer),
        (start_ns + 6 * _S, "0.25", "blocking I/O", writer),
        (start_ns + 7 * _S, "2.0", "garbage collection", writer),
    ]
    return {"duration": durations, "runtime": samples, "stall": stalls, "account": account}


def _published(directory: Path, start_ns: int, writer: int, seconds: int) -> list[ShippedFile]:
    return [
        publish(directory, writer, rows, prefix=prefix)
        for prefix, rows in _rows(start_ns, writer, seconds).items()
    ]


async def _ship(url: str, files: list[ShippedFile]) -> None:
    destination = make_destination(Target(url))
    await destination.open()
    for file in files:
        await destination.ship(shipment([file], file.name.partition(".")[0]))
    await destination.close()


def _with_macros(query: str, macros: Mapping[str, str]) -> str:
    """Replace what Grafana replaces in a query."""
    query = query.replace("${route:singlequote}", "'/a','/b'").replace("$route", "/a|/b")
    for name, text in macros.items():
        query = re.sub(name, text, query)
    assert "$" not in query
    return query


@pytest.mark.system
def test_postgresql_answers_each_query(directory: Path, postgres: Server) -> None:
    directory.mkdir()
    start_ns = time.time_ns() // (10 * _S) * 10 * _S - 600 * _S
    asyncio.run(_ship(postgres.url, _published(directory, start_ns, 7, 40)))
    low, high = start_ns - 60 * _S, start_ns + 600 * _S
    macros = {
        r"\$__unixEpochNanoFilter\((\w+)\)": rf"\1 >= {low} AND \1 <= {high}",
        r"\$__unixEpochNanoFrom\(\)": str(low),
        r"\$__interval_ms": "10000",
    }
    found = {
        title: postgres.psql(_with_macros(query, macros)).splitlines()
        for title, query in _queries("postgresql").items()
    }
    assert {title for title, rows in found.items() if not rows} == set()
    assert found["Requests per second A"][1].endswith("|GET /a|5.0000000000000000")
    assert sum(float(row.rpartition("|")[2]) for row in found["Errors per second A"]) == 4.0
    assert found["Workers that started and ended A"][0].endswith("|killed|1")
    assert found["Workers that started and ended B"][0].endswith("|started|1")
    longest = [row.split("|")[1:] for row in found["Longest stall A"]]
    assert longest == [["blocking I/O", "0.5"], ["garbage collection", "2"]]
    for by in ("cause", "worker"):
        stalled = found[f"Time in stalls, by {by} A"]
        assert sum(float(row.rpartition("|")[2]) for row in stalled) * 10 == pytest.approx(2.75)
    used = found["Processor time, by mode A"]
    assert {float(row.rpartition("|")[2]) for row in used if "user" in row} >= {50}
    assert found["Restarts per worker A"][0].endswith("|restarts|1")
    dropped = found["Observations that were dropped, per second A"]
    assert sum(float(row.rpartition("|")[2]) for row in dropped) * 10 == pytest.approx(39)
    dashboard = json.loads((_FILES / "postgresql.json").read_text())
    assert postgres.psql(dashboard["templating"]["list"][1]["query"]) == "/a"


@pytest.mark.system
def test_clickhouse_answers_each_query(directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    start_ns = time.time_ns() // (10 * _S) * 10 * _S - 600 * _S
    files = _published(directory, start_ns, 7, 40)
    start_s = start_ns // _S
    macros = {
        r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 10 second)",
        r"\$__fromTime": f"toDateTime({start_s - 60})",
        r"\$__toTime": f"toDateTime({start_s + 600})",
        r"\$__interval_s": "10",
    }
    with clickhouse_server(tmp_path / "engine") as server:
        asyncio.run(_ship(server.url, files))
        found = {
            title: server.run(_with_macros(query, macros).encode(), {}).decode().splitlines()
            for title, query in _queries("clickhouse").items()
        }
        dashboard = json.loads((_FILES / "clickhouse.json").read_text())
        routes = server.run(dashboard["templating"]["list"][1]["query"].encode(), {})
    assert {title for title, rows in found.items() if not rows} == set()
    assert [row.split("\t")[1:] for row in found["Requests per second A"]] == [["GET /a", "5"]] * 4
    assert sum(float(row.rpartition("\t")[2]) for row in found["Errors per second A"]) == 4.0
    assert found["Workers that started and ended A"][0].endswith("\tkilled\t1")
    assert found["Workers that started and ended B"][0].endswith("\tstarted\t1")
    longest = [row.split("\t")[1:] for row in found["Longest stall A"]]
    assert sorted(longest) == [["blocking I/O", "0.5"], ["garbage collection", "2"]]
    for by in ("cause", "worker"):
        stalled = found[f"Time in stalls, by {by} A"]
        assert sum(float(row.rpartition("\t")[2]) for row in stalled) * 10 == pytest.approx(2.75)
    used = found["Processor time, by mode A"]
    assert {float(row.rpartition("\t")[2]) for row in used if "user" in row} >= {50}
    assert found["Restarts per worker A"][0].endswith("\trestarts\t1")
    dropped = found["Observations that were dropped, per second A"]
    assert sum(float(row.rpartition("\t")[2]) for row in dropped) * 10 == pytest.approx(39)
    assert routes == b"/a\n"


@pytest.mark.system
async def test_prometheus_answers_each_query(
    directory: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
    debian_package: Callable[[str, str], Path],
) -> None:
    directory.mkdir()
    app = web.Application()
    add_metrics(app, [str(directory)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    job = {"job_name": "x", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config: dict[str, Any] = {"global": {"scrape_interval": "250ms"}, "scrape_configs": [job]}
    home = tmp_path / "prometheus"
    try:
        with prometheus(debian_package, free_port(), home, config) as engine:
            await asyncio.to_thread(_record_and_query, engine, directory)
    finally:
        await runner.cleanup()


def _record_and_query(engine: Engine, directory: Path) -> None:
    engine.wait_for("sum(aqltelemetry_workers)", {(): 0})
    requests = "sum(aqltelemetry_request_duration_seconds_count)"
    for number, (writer, is_killed) in enumerate(((1, True), (2, True), (3, False), (3, False))):
        files = _published(directory, time.time_ns(), writer, 10)
        if not is_killed:
            Path(files[-1].path).unlink()
        engine.wait_for(requests, {(): 50 * (number + 1)})
    macros = {r"\$__rate_interval": "1m", r"\$__interval": "1m"}
    found = {
        title: engine.query(_with_macros(query, macros))
        for title, query in _queries("prometheus").items()
    }
    assert {title for title, rows in found.items() if not rows} == set()
    assert all(math.isfinite(value) for rows in found.values() for value in rows.values())
    # The bounds of the buckets of the longest ones.
    assert found["Longest stall A"] == {("blocking I/O",): 0.5, ("garbage collection",): 2.5}
    assert max(found["Requests per second, by worker A"].values()) > 0


@pytest.mark.system
def test_the_rules_for_alerts_fire_when_they_should(
    debian_package: Callable[[str, str], Path],
) -> None:
    promtool = debian_package("prometheus", "usr/bin/promtool")
    for arguments in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [str(promtool), *arguments], cwd=_FILES, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_guide_lists_each_alert() -> None:
    page = (ROOT / "docs" / "guides" / "dashboards.md").read_text()
    alerts = re.findall(r"- alert: (\w+)", (_FILES / "alerts.yml").read_text())
    assert re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE) == alerts
