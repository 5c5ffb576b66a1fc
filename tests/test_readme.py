"""Every command and program in the documents is run as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.journal.location import all_roots
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.settings import OPTIONS
from aqltelemetry.sinks.file_names import parse

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)
_TIMEOUT_S = 110


def _blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _commands(document: str) -> list[str]:
    return [line for block in _blocks(document, "sh") for line in block.splitlines()]


def _programs() -> dict[str, str]:
    """Return all Python programs of the documents, by the name in their first line."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        for block in _blocks(document, "python"):
            name = block.splitlines()[0].removeprefix("# ")
            assert name.endswith(".py"), f"{document}: a program says its file's name first"
            found[name] = block
    return found


def _run(*command: str, cwd: Path, timeout_s: float = _TIMEOUT_S) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    """Return an environment in which commands are those of this Python."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _make(line: str, arguments: str) -> str:
    return _run(*line.split(), f"ARGS={arguments}", cwd=ROOT, timeout_s=500)


@pytest.mark.timeout(600)
def test_make_demo(tmp_path: Path) -> None:
    assert _commands("README.md")[0] == "make demo"
    output = _make("make demo", f"--dir {tmp_path}/demo --requests 500")
    _same_report(output)


@pytest.mark.timeout(600)
def test_make_test() -> None:
    """Here of one file only, since this is a part of it."""
    assert _commands("README.md")[1] == "make test"
    assert " passed" in _make("make test", "tests/test_errors.py")


@pytest.mark.timeout(600)
def test_the_other_targets_of_make_exist() -> None:
    assert _commands("CONTRIBUTING.md") == ["make lint", "make test", "make bench"]
    for line in (*_commands("CONTRIBUTING.md"), "make format"):
        assert _run(*line.split(), "--dry-run", cwd=ROOT)
    help_text = _run("make", cwd=ROOT)
    targets = {"help", "demo", "test", "lint", "format", "bench", "storm", "matrix", "clean"}
    targets |= {"services", "coverage", "hooks", "dist"}
    assert set(re.findall(r"make (\w+)", help_text)) == targets


def _cells(text: str) -> list[list[str]]:
    """Return the tables' cells, with numbers made alike."""
    rows = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [
        [re.sub(r"^[\d.,]+$", "#", cell.strip()) for cell in re.split("[│┃]", row)[1:-1]]
        for row in rows
    ]


def _same_report(output: str) -> None:
    """Check that a demo's output is what the README shows, but for its numbers."""
    shown = next(block for block in _blocks("README.md", "text") if "service" in block)
    assert sorted(_cells(output)) == sorted(_cells(shown))
    assert _sentences(shown) <= _sentences(output)


def _sentences(text: str) -> set[str]:
    lines = (line.rstrip() for line in text.splitlines() if line[:1] not in "│┃┏┡└")
    return {re.sub(r"\d+|into \S+", "#", line) for line in lines}


@pytest.mark.timeout(600)
def test_pip_install_from_a_clone(tmp_path: Path) -> None:
    """Into a new environment, in which the shortest program then records and is read."""
    assert _commands("README.md")[2] == "pip install '.[all]'"
    _run(sys.executable, "-m", "venv", str(tmp_path / "env"), cwd=tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "build")
    shutil.copytree(ROOT, clone, ignore=ignored)
    _run(python, "-m", "pip", "install", "--quiet", ".[all]", cwd=clone, timeout_s=550)
    programs = _programs()
    for name in ("program.py", "read.py"):
        (tmp_path / name).write_text(programs[name].replace("/users/{user} [GET]", "all of it"))
        output = _run(python, "-W", "error", name, cwd=tmp_path)
    assert "all of it" in output


def _wait_for(url: str) -> bytes:
    """Get a page of a server that is about to start."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return bytes(response.read())
        except OSError:
            assert time.monotonic() < deadline, f"no answer from {url}"
            time.sleep(0.05)


def _serve(command: list[str], url: str, requests: int, cwd: Path, workers: int = 1) -> None:
    """Run a server while requests are sent to it, then have it stop.

    Not before all workers record: one that is asked to stop while it starts may
    not hear of it, and be killed by its master after half a minute.
    """
    roots = all_roots(str(cwd / "_monitoring"))
    with subprocess.Popen(
        command, cwd=cwd, env=_environment(), stdout=subprocess.DEVNULL
    ) as server:
        try:
            assert _wait_for(f"{url}/users/0").strip(b'"\n') == b"hello 0"
            for number in range(1, requests):
                _wait_for(f"{url}/users/{number}")
            while sum(len(list(root.glob("*"))) for root in roots) < workers:
                _wait_for(f"{url}/users/{number}")
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_the_aiohttp_service_alone_and_under_gunicorn(tmp_path: Path, port: int) -> None:
    """With the port made a free one; then the report and the reading program."""
    (tmp_path / "app.py").write_text(_programs()["app.py"].replace("8080", str(port)))
    url = f"http://127.0.0.1:{port}"
    _serve([sys.executable, "app.py"], url, 10, tmp_path)
    gunicorn = _commands("README.md")[3]
    report = _commands("README.md")[8]
    assert gunicorn.startswith("gunicorn ")
    _serve(gunicorn.replace("8080", str(port)).split(), url, 10, tmp_path, workers=2)

    directory = tmp_path / "_monitoring"
    series = TelemetryDB(directory).duration().time_series("/users/{user} [GET]")
    assert len(series.data()) >= 20
    assert TelemetryDB(directory).duration().labels() == [
        "/users/{user} [GET]",
        "/users/{user} [GET] ttfb",
        "db query",
        "render()",
    ]
    assert all(parse(path.name) for path in directory.rglob("*"))
    assert report == "aqltelemetry report _monitoring"
    assert "/users/{user} [GET]" in _run(*report.split(), cwd=tmp_path)
    (tmp_path / "read.py").write_text(_programs()["read.py"])
    output = _run(sys.executable, "read.py", cwd=tmp_path)
    assert f"count    {len(series.data())}" in output


@pytest.mark.parametrize(
    ("name", "number"), [("main.py", 4), ("flask_app.py", 5), ("flask_app.py", 6)]
)
def test_the_fastapi_and_flask_applications(
    tmp_path: Path, port: int, name: str, number: int
) -> None:
    (tmp_path / name).write_text(_programs()[name])
    command = _commands("README.md")[number]
    assert name.removesuffix(".py") + ":app" in command
    url = f"http://127.0.0.1:{port}"
    _serve(command.replace("8000", str(port)).split(), url, 10, tmp_path, workers=2)
    durations = TelemetryDB(tmp_path / "_monitoring").duration()
    assert durations.labels() == ["/users/{user} [GET]", "/users/{user} [GET] ttfb"]
    assert len(TelemetryDB(tmp_path / "_monitoring").runtime().pids()) == 2
    total, first = (durations.time_series(label).data() for label in durations.labels())
    assert len(total) == len(first) >= 10


def test_the_configuration_of_gunicorn(tmp_path: Path, port: int) -> None:
    (tmp_path / "flask_app.py").write_text(_programs()["flask_app.py"])
    (tmp_path / "conf.py").write_text(_programs()["conf.py"])
    command = _commands("README.md")[6].replace("python:aqltelemetry.gunicorn", "conf.py")
    assert "--config conf.py" in command
    url = f"http://127.0.0.1:{port}"
    _serve(command.replace("8000", str(port)).split(), url, 10, tmp_path, workers=2)
    durations = TelemetryDB(tmp_path / "_monitoring").duration()
    assert len(durations.time_series("/users/{user} [GET]").data()) >= 10


def test_without_a_line_of_code_and_what_is_asked_while_it_runs(tmp_path: Path, port: int) -> None:
    plain = "".join(
        line
        for line in _programs()["main.py"].splitlines(keepends=True)
        if "aqltelemetry" not in line and "TelemetryMiddleware" not in line
    )
    (tmp_path / "main.py").write_text(plain)
    run, _, doctor, off, on, profile, verify, recover = _commands("README.md")[7:]
    command = run.replace("8000", str(port)).split()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=tmp_path, env=_environment()) as server:
        try:
            _wait_for(f"{url}/users/0")
            found = ""
            while found.count("  recording    process ") < 4:
                found = _run(*doctor.split(), cwd=tmp_path)
            pid = re.findall(r"recording    process (\d+)", found)[0]
            assert "switched off" in _run(*off.split(), cwd=tmp_path)
            assert "switched on" in _run(*on.split(), cwd=tmp_path)
            asked = profile.replace("--seconds 30", "--seconds 1").replace("4123", pid).split()
            assert f"profiler.{pid}.data" in _run(*asked, cwd=tmp_path)
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert (tmp_path / "_monitoring" / f"profiler.{pid}.data").exists()
    assert "all is explained" in _run(*verify.split(), cwd=tmp_path)
    assert "0 segments of killed processes" in _run(*recover.split(), cwd=tmp_path)
    db = TelemetryDB(tmp_path / "_monitoring")
    assert len(db.runtime().pids()) == 4
    assert "/users/{user} [GET]" in db.duration().labels()


def test_the_asyncio_program(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_programs()["program.py"])
    _run(sys.executable, "-W", "error", "program.py", cwd=tmp_path)
    db = TelemetryDB(tmp_path / "_monitoring")
    assert db.duration().labels() == ["__main__.fetch", "all of it"]
    assert len(db.duration().time_series("__main__.fetch").data()) == 100
    assert list(db.frame("custom").time_series("queue length").data()) == [7.0]


def test_the_program_without_an_event_loop(tmp_path: Path) -> None:
    (tmp_path / "legacy.py").write_text(_programs()["legacy.py"])
    _run(sys.executable, "-W", "error", "legacy.py", cwd=tmp_path)
    labels = TelemetryDB(tmp_path / "_monitoring").duration().labels()
    assert labels == ["between two hooks", "version()"]


def test_a_sampler_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "queue_sampler.py").write_text(_programs()["queue_sampler.py"])
    _run(sys.executable, "-W", "error", "queue_sampler.py", cwd=tmp_path)
    lengths = TelemetryDB.from_csv_files(tmp_path / "_monitoring", "queue").time_series("length")
    assert lengths.data().iloc[-1] == 10


def test_a_sink_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "slow_sink.py").write_text(_programs()["slow_sink.py"])
    output = _run(sys.executable, "-W", "error", "slow_sink.py", cwd=tmp_path)
    assert re.fullmatch(r"\d{19} long 1\d{9}\n", output)


def test_every_command_and_program_is_run_by_a_test() -> None:
    assert len(_commands("README.md")) == 15
    assert set(_programs()) == {
        *("app.py", "main.py", "flask_app.py", "conf.py", "program.py", "legacy.py", "read.py"),
        *("queue_sampler.py", "slow_sink.py"),
    }


def test_the_options_shown_are_the_options_there_are() -> None:
    text = (ROOT / "README.md").read_text()
    table = text.split("| option | default | |")[1].split("\n\n")[0]
    shown = set(re.findall(r"`([a-z_]+)`", table)) - {"auto", "profiler", "stop"}
    names = {option.keyword for option in OPTIONS.values()}
    assert shown - {"_monitoring"} == names


def test_the_file_names_and_header_shown_are_right() -> None:
    shown = [block for block in _blocks("README.md", "text") if "_monitoring/duration." in block]
    names = [Path(line).name for line in shown[0].splitlines()]
    assert all(parse(name) is not None for name in names)
    assert any(block.startswith(CSV_HEADER.decode()) for block in _blocks("README.md", "text"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            file = (path.parent / target) if target else path
            assert file.exists(), link
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                # As GitHub makes anchors: without punctuation.
                words = [re.sub(r"[^\w -]", "", title.lower()) for title in titles]
                assert anchor in {each.replace(" ", "-") for each in words}, link


def test_the_map_of_the_package_is_whole() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("|---|---|")[1]
    named = set(re.findall(r"`([a-z_/]+)`", table))
    for path in (ROOT / "aqltelemetry").rglob("*.py"):
        if not path.stem.startswith("__"):
            relative = path.relative_to(ROOT / "aqltelemetry")
            ways = {path.stem, f"{relative.parent}/", str(relative.with_suffix(""))}
            assert named & ways, f"{relative} is not on the map"
