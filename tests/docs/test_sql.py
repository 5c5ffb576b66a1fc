"""The documented query by DuckDB, and the import into PostgreSQL, into a server of this test."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from aqltelemetry import Monitor, TelemetryDB, time_block
from aqltelemetry.system.clock import epoch_ns
from pages import ROOT, Page
from postgres import Server
from published import PROCESSES, Row, publish

pytestmark = pytest.mark.system
_PAGE = ROOT / "docs" / "guides" / "sql.md"


def _blocks(language: str) -> list[str]:
    section = _PAGE.read_text().split("\n## PostgreSQL\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(postgres: Server) -> dict[str, str]:
    """Return the environment that reaches a server of this test."""
    return postgres.environment


def _psql(server: dict[str, str], sql: str) -> str:
    done = subprocess.run(
        ["psql", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--command", sql],
        check=True,
        capture_output=True,
        text=True,
        env=server,
        timeout=60,
    )
    return done.stdout.strip()


def _import(server: dict[str, str], directory: Path) -> str:
    (script,) = _blocks("sh")
    done = subprocess.run(
        ["sh", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=server,
        cwd=directory.parent,
        timeout=60,
    )
    return done.stdout


_LABELS = ('a "quoted", label', "", "NULL", r"\N", "é\n", "50 %", "/version [GET]")


async def _record(directory: Path) -> int:
    """Record every label, and return how many rows that made in all."""
    async with Monitor(directory) as monitor:
        for label in _LABELS:
            for _ in range(50):
                with time_block(label):
                    pass
    return monitor.stats().published


async def test_every_file_goes_in_once(tmp_path: Path, server: dict[str, str]) -> None:
    directory = tmp_path / "_monitoring"
    _psql(server, _blocks("sql")[0])
    count = "SELECT count(*) FROM measurements"
    recorded = await _record(directory)
    assert _import(server, directory) == ""
    assert _psql(server, count) == str(recorded)
    first = len([*directory.glob("duration.*.csv"), *directory.glob("runtime.*.csv")])
    recorded += await _record(directory)
    assert _import(server, directory).count("skipped ") == first
    assert _psql(server, count) == str(recorded)


async def test_every_value_comes_out_the_same(tmp_path: Path, server: dict[str, str]) -> None:
    directory = tmp_path / "_monitoring"
    create, query = _blocks("sql")
    _psql(server, create)
    await _record(directory)
    _import(server, directory)
    columns = "timepoint, measurement, encode(convert_to(label, 'UTF8'), 'hex'), pid"
    lines = _psql(server, f"SELECT {columns} FROM measurements").splitlines()
    found = Counter(
        (int(at), float(value), bytes.fromhex(label).decode(), int(pid))
        for at, value, label, pid in (line.split("|") for line in lines)
    )
    db = TelemetryDB(directory)
    wanted = Counter(
        (stamp.value, value, label, pid)
        for frame in (db.duration().data(), db.runtime().data())
        for stamp, value, label, pid in frame.itertuples(index=False)
    )
    assert found == wanted
    answer = [line.split("|") for line in _psql(server, query).splitlines()]
    assert {label for _, label, *_ in answer} == {"/version [GET]"}
    assert sum(int(requests) for *_, requests, _ in answer) == 50


async def test_times_are_exact_to_the_microsecond(tmp_path: Path, server: dict[str, str]) -> None:
    _psql(server, _blocks("sql")[0])
    _psql(server, "INSERT INTO measurements VALUES (1763929105123456789, 1, 'x', 7)")
    shown = _psql(
        server, "SET timezone = 'UTC'; SELECT \"time\" FROM time_series WHERE label = 'x'"
    )
    assert shown.splitlines()[-1] == "2025-11-23 20:18:25.123456+00"


def test_the_program_queries_a_recording_and_writes_it_as_parquet(tmp_path: Path) -> None:
    (tmp_path / "_monitoring").mkdir()
    now_ns = epoch_ns()
    rows = [Row(now_ns - number, 0.25, "/v [GET]", PROCESSES[0]) for number in range(7)]
    publish(tmp_path / "_monitoring", rows)
    page = Page("docs/guides/sql.md")
    (tmp_path / "query.py").write_text(page.programs()["query.py"])
    program = [sys.executable, "-W", "error", "query.py"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Label", "n", "p99_s", "0", "/v", "[GET]", "7", "0.25"]
    assert len(pd.read_parquet(tmp_path / "recording.parquet")) == 7
