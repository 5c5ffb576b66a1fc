"""The commands and programs of the documentation are run as they stand on their pages."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from rich.text import Text

from aqltelemetry import TelemetryDB
from aqltelemetry.views.findings.find import find
from pages import ROOT, Page, environment, get, is_server, pages, run, serving
from terminal import run_on_terminal

pytestmark = pytest.mark.system
_REQUESTS = ["/users/{user} [GET]", "/users/{user} [GET] ttfb"]
_ENDS = ("", " 4xx", " ttfb")
_RECORDED = {
    "README.md": _REQUESTS,
    "docs/guides/archive.md": None,
    "docs/guides/autopsy.md": [],
    "docs/guides/aiohttp.md": [*_REQUESTS, "db query", "render()"],
    "docs/guides/asgi.md": _REQUESTS,
    "docs/guides/compare.md": None,
    "docs/guides/cpu-time.md": ["add", "render"],
    "docs/guides/dumps.md": None,
    "docs/guides/extending.md": [*(*_REQUESTS, "line hello", "line other", "long")],
    "docs/guides/gunicorn.md": _REQUESTS,
    "docs/guides/html-report.md": None,
    "docs/guides/plot.md": None,
    "docs/guides/prometheus.md": _REQUESTS,
    "docs/guides/reading.md": None,
    "docs/guides/report.md": None,
    "docs/guides/run.md": _REQUESTS,
    "docs/guides/scripts-and-workers.md": [
        *("__main__.fetch", "all of it", "between two hooks", "version()")
    ],
    "docs/guides/serve.md": [*_REQUESTS, *(f"/_telemetry/{{path}} [GET]{end}" for end in _ENDS)],
    "docs/guides/stalls.md": [],
    "docs/guides/switch-and-profile.md": [],
    "docs/guides/top.md": [],
    "docs/guides/troubleshooting.md": [],
    "docs/guides/wsgi.md": _REQUESTS,
    "docs/reference/findings.md": None,
    "docs/reference/report-json.md": None,
}
"""The labels of the durations that each page's commands and programs record."""
_ELSEWHERE = {
    "CONTRIBUTING.md": "test_pages.py",
    "docs/guides/sql.md": "test_sql.py",
    "docs/releasing.md": "it publishes a release",
    **{page.name: "test_examples.py" for page in pages() if page.name.startswith("examples/")},
}
_MAIN = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/users/{user}")
async def hello(user):
    return f"hello {user}"
"""
_RECORDING = """
import time
from aqltelemetry import sync
sync.start("_monitoring", max_file_age_s=0.2, flush_interval_s=0.1)
print("recording", flush=True)
while True:
    with sync.time_block("work"):
        time.sleep(0.01)
"""


def test_each_page_with_commands_or_programs_is_run() -> None:
    found = {page.name for page in pages() if page.commands() or page.programs()}
    assert set(_RECORDED) <= found
    assert found <= set(_RECORDED) | set(_ELSEWHERE)


@pytest.mark.parametrize("name", _RECORDED)
def test_what_a_page_shows_works(
    tmp_path: Path, free_port: Callable[[], int], name: str, request: pytest.FixtureRequest
) -> None:
    page = Page(name)
    programs = page.programs()
    for program, text in programs.items():
        (tmp_path / program).write_text(text.replace("8080", "8000"))
    commands = [line for line in page.commands() if not line.startswith(("make ", "pip "))]
    if name == "README.md":
        (tmp_path / "main.py").write_text(_MAIN)
    if _RECORDED[name] is None:
        shutil.copytree(request.getfixturevalue("incident"), tmp_path / "_monitoring")
    is_live = any(re.search(r"aqltelemetry (doctor|off|profile|top)", line) for line in commands)
    # They show what the services recorded.
    commands.sort(key=_is_view)
    with _recording(tmp_path) if is_live else nullcontext(0) as pid:
        for command in commands:
            if _is_view(command):
                _look(command, tmp_path)
            elif is_server(command):
                _requests(command, tmp_path, free_port())
            else:
                run(_shortened(command, pid), tmp_path)
    for program in programs:
        module = program.removesuffix(".py")
        if not any(program in line or f"{module}:" in line for line in commands):
            run([sys.executable, "-W", "error", program], tmp_path)
    expected = _RECORDED[name]
    if expected:
        assert TelemetryDB(tmp_path / "_monitoring").duration().labels() == sorted(expected)


def _requests(command: str, cwd: Path, port: int) -> None:
    """Run a server that is free to choose its port, and send it requests."""
    program = cwd / "app.py"
    if command == "python app.py":
        program.write_text(program.read_text().replace("8000", str(port)))
    with serving(command, cwd, port) as url:
        for number in range(10):
            assert get(f"{url}/users/{number}").strip(b'"\n') == f"hello {number}".encode()
        if any("/_telemetry" in path.read_text() for path in cwd.glob("*.py")):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{url}/_telemetry/", timeout=60)
            allowed = {"Authorization": "Bearer change me"}
            page = urllib.request.Request(f"{url}/_telemetry/report.json", headers=allowed)
            with urllib.request.urlopen(page, timeout=60) as response:
                labels = {row["label"] for row in json.load(response)["durations"]}
            assert "/users/{user} [GET]" in labels


def _is_view(command: str) -> bool:
    return command.startswith("aqltelemetry serve")


def _look(command: str, cwd: Path) -> None:
    """Run a command that serves a page, look at it, and interrupt it."""
    arguments = [*shlex.split(command), "--port", "0"]
    with subprocess.Popen(
        arguments, cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        (url,) = re.findall(r"http://\S+", server.stdout.readline())
        assert b"<title>_monitoring" in get(url)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def _shortened(command: str, pid: int) -> str:
    return command.replace("--seconds 30", "--seconds 0.5").replace("4123", str(pid))


@contextmanager
def _recording(cwd: Path) -> Iterator[int]:
    """Run a process that records, and yield its PID."""
    with subprocess.Popen(
        [sys.executable, "-c", _RECORDING], cwd=cwd, env=environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recording\n"
        try:
            yield process.pid
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the example of the README's story, and return what it recorded.

    It runs up to three times: while the machine is busy with something else, that may be what
    the slowest requests waited for.
    """
    for _ in range(3):
        directory = tmp_path_factory.mktemp("incident")
        shutil.copy(ROOT / "examples" / "incident" / "incident.py", directory)
        run([sys.executable, "incident.py"], directory)
        recording = directory / "_monitoring"
        rules = {each.rule for each in find(TelemetryDB(recording))}
        if {"killed", "event loop blocked"} <= rules:
            break
    return recording


def test_the_findings_on_the_story_name_the_worker_and_the_line(incident: Path) -> None:
    found = find(TelemetryDB(incident))
    (killed,) = (each for each in found if each.rule == "killed")
    # On a busy machine there are more.
    stalls = [each for each in found if each.rule == "event loop blocked"]
    (blocked,) = (each for each in stalls if re.search(_what_blocks(), each.text))
    assert blocked.pid == killed.pid


def test_the_story_of_the_readme_is_what_its_program_records(incident: Path) -> None:
    status, printed = run_on_terminal(["aqltelemetry", "report"], 80, incident.parent)
    assert status == 0
    (shown,) = [block for block in Page("README.md").blocks("text") if "workers" in block]
    tables, in_readme = _tables(Text.from_ansi(printed).plain), _tables(shown)
    durations, workers = list(in_readme)
    for title, (head, *_) in in_readme.items():
        # On a busy machine the numbers may be longer, so that there is room for fewer columns.
        assert tables[title][0] == [each for each in head if each in tables[title][0]]
    labels = {row[0] for row in tables[durations]}
    assert labels == {row[0] for row in in_readme[durations]}
    assert len(tables[workers]) == len(in_readme[workers])
    for finding in "as if killed", _what_blocks():
        assert re.search(finding, " ".join(shown.split()))
        assert re.search(finding, " ".join(Text.from_ansi(printed).plain.split()))
    db = TelemetryDB(incident)
    exports = db.duration().time_series("render export")
    (killed,) = exports.pids()
    orders = db.duration().time_series("/orders/{id} [GET]").data(by_pid=killed)
    first = exports.data().index[0]
    assert orders[first:].quantile(0.99) > 1.5 * orders[:first].quantile(0.5)
    lag = {pid: _lags(db, pid) for pid in db.runtime().pids()}
    assert max(lag, key=lambda pid: lag[pid]) == killed
    verified = run(["aqltelemetry", "verify", str(incident)], ROOT)
    assert re.search(rf"process {killed}, \w+: killed, and recovered", verified)


def test_what_the_guide_to_the_report_shows_is_what_it_prints(incident: Path) -> None:
    (shown,) = Page("docs/guides/report.md").blocks("text")
    prompt, table = shown.split("\n", 1)
    status, printed = run_on_terminal(
        shlex.split(prompt.removeprefix("$ ")), 80, incident.parent, NO_COLOR="1"
    )
    assert status == 0
    ((title, (head, *rows)),) = _tables(table).items()
    plain = Text.from_ansi(printed).plain
    # On a busy machine a progress bar is drawn and removed before.
    found_head, *found_rows = _tables(plain[plain.index(title) :])[title]
    assert found_head == head
    assert [row[1] for row in found_rows[: len(rows)]] == [row[1] for row in rows]


def _what_blocks() -> str:
    """Return a pattern of what a finding says about the line that blocks the event loop."""
    lines = (ROOT / "examples" / "incident" / "incident.py").read_text().splitlines()
    (number,) = (at for at, line in enumerate(lines, 1) if "for row in range(ROWS)" in line)
    return rf"python code at \S*incident\.py:{number} in `render"


def _lags(db: TelemetryDB, pid: int) -> float:
    return float(db.runtime().time_series("event loop lag").data(by_pid=pid).max())


def _tables(text: str) -> dict[str, list[list[str]]]:
    """Return the tables of a report: by title, the cells of the head and of each row."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    return {
        title: [re.split(r" {2,}", line) for line in (head, *rows)]
        for title, head, rule, *rows in (part for part in parts if len(part) > 2)
        if rule.startswith("─")
    }
