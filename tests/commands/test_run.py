"""`aqltelemetry run` before real commands: each request that was answered is in the files."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aqltelemetry.runtime.control_files import ControlFiles
from servers import PROGRAMS

pytestmark = pytest.mark.system

Rows = Callable[..., list[dict[str, str]]]
_BIN = Path(sys.executable).parent
_LABEL = "/users/{user} [GET]"
_RAW_WSGI = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Worker", str(os.getpid())), ("Content-Length", "0")])
    return []
"""
_RAW_ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"worker", str(os.getpid()).encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})
"""
_FASTAPI = """
import os, sys, uvicorn
from fastapi import FastAPI, Response
app = FastAPI()
@app.get("/users/{user}")
async def hello(user: str):
    return Response(user, headers={"Worker": str(os.getpid())})
if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]))
"""
_QUART = """
import os
from quart import Quart
app = Quart(__name__)
@app.get("/users/<user>")
async def hello(user):
    return user, {"Worker": str(os.getpid())}
"""
_LITESTAR = """
import os
from litestar import Litestar, Response, get
@get("/users/{user:str}")
async def hello(user: str) -> Response[str]:
    return Response(user, headers={"Worker": str(os.getpid())})
app = Litestar([hello])
"""
_DJANGO = """
import os, sys
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
def hello(request, user):
    return HttpResponse(user, headers={"Worker": str(os.getpid())})
urlpatterns = [path("users/<str:user>", hello)]
if __name__ == "__main__":
    from wsgiref.simple_server import make_server
    make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
app = get_asgi_application()
"""
_SERVE_AIOHTTP = """
if __name__ == "__main__":
    import sys
    web.run_app(app, port=int(sys.argv[1]))
"""
_SERVE_ITSELF = """
from aqltelemetry.aiohttp import setup
setup(app)
"""
_KILLED = -signal.SIGTERM
_GUNICORN = "gunicorn app:app --bind 127.0.0.1:{port} --workers 2 --log-level critical"


@dataclass(frozen=True)
class Case:
    """A command, the program it serves, how many processes answer, and under which label."""

    command: str
    program: str
    workers: int = 1
    label: str = _LABEL
    code: int = 0
    in_a_shell: bool = False
    options: tuple[str, ...] = ()


_CASES = {
    "gunicorn sync": Case(_GUNICORN, PROGRAMS["flask"], 2),
    "gunicorn gevent": Case(f"{_GUNICORN} -k gevent", PROGRAMS["flask"], 2),
    "gunicorn, no framework": Case(_GUNICORN, _RAW_WSGI, 2, "unmatched"),
    "gunicorn asgi": Case(f"{_GUNICORN} -k asgi", PROGRAMS["starlette"], 2),
    "gunicorn uvicorn": Case(
        f"{_GUNICORN} -k uvicorn_worker.UvicornWorker", PROGRAMS["starlette"], 2
    ),
    "gunicorn aiohttp": Case(f"{_GUNICORN} -k aiohttp.GunicornWebWorker", PROGRAMS["aiohttp"], 2),
    "gunicorn preload, our configuration too": Case(
        f"{_GUNICORN} --preload --config python:aqltelemetry.gunicorn", PROGRAMS["flask"], 2
    ),
    "uvicorn": Case("uvicorn app:app --port {port} --workers 4", PROGRAMS["starlette"], 4),
    "uvicorn, no framework": Case(
        "uvicorn app:app --port {port}", _RAW_ASGI, 1, "unmatched", _KILLED
    ),
    "uvicorn django": Case("uvicorn app:app --port {port}", _DJANGO, code=_KILLED),
    "uvicorn in a program": Case("python app.py {port}", _FASTAPI, code=_KILLED),
    "hypercorn litestar": Case("hypercorn app:app --bind 127.0.0.1:{port}", _LITESTAR),
    "hypercorn starlette": Case("hypercorn app:app --bind 127.0.0.1:{port}", PROGRAMS["starlette"]),
    "hypercorn on trio": Case(
        "hypercorn -k trio app:app --bind 127.0.0.1:{port}", PROGRAMS["starlette"]
    ),
    "hypercorn quart": Case("hypercorn app:app --bind 127.0.0.1:{port}", _QUART),
    "uvicorn with a user's template": Case(
        "uvicorn app:app --port {port}",
        f"{_RAW_ASGI}def route(scope): return '/mine/{{id}}'\n",
        label="/mine/{id} [GET]",
        code=_KILLED,
        options=("--template", "app:route"),
    ),
    "aiohttp": Case("python app.py {port}", PROGRAMS["aiohttp"] + _SERVE_AIOHTTP),
    "aiohttp that records itself": Case(
        "python app.py {port}", PROGRAMS["aiohttp"] + _SERVE_ITSELF + _SERVE_AIOHTTP
    ),
    "flask run": Case("flask --app app run --port {port}", PROGRAMS["flask"], code=_KILLED),
    "wsgiref django": Case("python app.py {port}", _DJANGO, code=_KILLED),
    "a shell": Case(
        "sh -c 'trap : TERM; python app.py {port}; exit 3'", _DJANGO, code=3, in_a_shell=True
    ),
}


@contextlib.contextmanager
def _running(
    command: Sequence[str], cwd: Path, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "aqltelemetry", "run", "--dir", "monitoring", *command],
        cwd=cwd,
        env={**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}", **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _run(
    *command: str, cwd: Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    with _running(command, cwd, environ) as process:
        output, errors = process.communicate(timeout=100)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _ask(port: int, answered: Counter[int]) -> None:
    url = f"http://127.0.0.1:{port}/users/7"
    with (
        contextlib.suppress(urllib.error.URLError, ConnectionError),
        urllib.request.urlopen(url, timeout=60) as response,
    ):
        response.read()
        answered[int(response.headers["Worker"])] += 1


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_each_answered_request_is_in_the_files_once(
    tmp_path: Path, directory: Path, rows: Rows, port: int, case: Case
) -> None:
    (tmp_path / "app.py").write_text(case.program)
    command = re.findall(r"'[^']*'|\S+", case.command.format(port=port))
    answered: Counter[int] = Counter()
    with _running(
        [*case.options, "--", *(each.strip("'") for each in command)], tmp_path
    ) as process:
        deadline = time.monotonic() + 60
        while len(answered) < case.workers or answered.total() < 30:
            assert time.monotonic() < deadline, process.communicate()
            assert process.poll() is None, process.communicate()
            _ask(port, answered)
        if case.in_a_shell:  # which hands on nothing: so to all, as a terminal does it
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == case.code, errors
    found = Counter(int(row["PID"]) for row in rows() if row["Label"] == case.label)
    # A process that the signal kills may have answered a request and not recorded it yet.
    unsure = int(case.in_a_shell or case.code == _KILLED)
    assert answered.total() - unsure <= found.total() <= answered.total(), errors
    assert found <= answered
    # A process that the signal kills may not have sampled yet.
    assert unsure or set(answered) <= {int(row["PID"]) for row in rows("runtime")}
    prefixes = ("duration", "runtime", "stall")  # on a busy machine event loops are late
    assert _published(errors) == sum(len(rows(prefix)) for prefix in prefixes)
    assert "recording into" in errors.splitlines()[0]
    assert output.count("aqltelemetry") == 0


def _published(errors: str) -> int:
    """Return the number of observations in a summary."""
    (line,) = [line for line in errors.splitlines() if " observations (" in line]
    assert " 0 dropped" in line
    return int(line.split("published: ")[1].split()[0].replace(",", ""))


def test_a_program_that_serves_nothing_is_recorded_with_its_event_loop(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
import asyncio, time
from aqltelemetry import time_it
@time_it(label="work")
async def work():
    time.sleep(0.3)  # so the loop is late
    await asyncio.sleep(0.15)
asyncio.run(work())
asyncio.run(work())
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Counter(row["Label"] for row in rows()) == {"work": 2}
    lag_s = [float(row["Measurement"]) for row in rows("runtime") if "lag" in row["Label"]]
    assert sum(each > 0.15 for each in lag_s) == 2


@pytest.mark.parametrize(
    "begin",
    [
        "from aqltelemetry import sync; sync.start('own'); mark(); sync.stop()",
        "asyncio.run(main())",
        "from aqltelemetry import sync; mark(); sync.start('own'); mark(); sync.stop()",
    ],
)
def test_a_recording_that_the_program_starts_replaces_the_automatic_one(
    tmp_path: Path, rows: Rows, directory: Path, begin: str
) -> None:
    """Ours ends for it; what was recorded before is in our files, the rest in its own."""
    program = f"""
import asyncio
from aqltelemetry import monitor, time_block
def mark():
    with time_block("marked"):
        pass
async def main():
    await monitor.start("own")
    mark()
    await monitor.stop()
{begin}
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(rows()) == begin.count("mark();") - 1 if "mark()" in begin else not rows()
    own = "".join(path.read_text() for path in (tmp_path / "own").glob("duration.*.csv"))
    assert own.count("marked") == 1


_FAILING_STARTS = """
import asyncio, sys
from aqltelemetry import Monitor, sync, time_block
class Unattached:
    prefix, interval_s = "runtime", None
    async def sample(self): return ()
    def attach(self, append): raise ValueError("no")
    def detach(self): pass
async def start(directory, options):
    await Monitor(directory, **options).start()
async def start_and_cancel():
    task = asyncio.create_task(Monitor("own").start())
    await asyncio.sleep(0)
    task.cancel()
    await task
ways = {
    "directory": ("/proc/none", {}),
    "file": (__file__, {}),
    "option": ("own", {"interval_s": -1}),
    "unknown": ("own", {"no_such": 1}),
    "sink": ("own", {"sinks": [None]}),
    "profiler": ("own", {"with_profiler": True}),
    "sampler": ("own", {"samplers": [Unattached()]}),
}
for name, (directory, options) in ways.items():
    for start_it in (
        lambda: sync.start(directory, **options), lambda: asyncio.run(start(directory, options))
    ):
        sys.setprofile((lambda *_: None) if name == "profiler" else None)
        try:
            start_it()
        except Exception:
            sys.setprofile(None)
        else:
            raise SystemExit(f"{name}: was started")
        with time_block(name):
            pass
try:
    asyncio.run(start_and_cancel())
except asyncio.CancelledError:
    pass
with time_block("cancelled"):
    pass
sync.start("own")
sync.stop()
"""


def test_a_recording_that_the_program_fails_to_start_replaces_nothing(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    """The one that was started for it goes on, and ends for the next that does start."""
    (tmp_path / "program.py").write_text(_FAILING_STARTS)
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = Counter(row["Label"] for row in rows())
    names = ("directory", "file", "option", "unknown", "sink", "profiler", "sampler")
    assert found == dict.fromkeys(names, 2) | {"cancelled": 1}
    assert list((tmp_path / "own").glob("runtime.*.csv"))


def test_the_journal_of_a_killed_process_is_published_at_the_end(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
import os, signal
from aqltelemetry import time_block
for _ in range(1000):
    with time_block("x"):
        pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL
    assert len(rows()) == 1000
    assert "1,000 duration" in done.stderr


def test_options_reach_the_processes(tmp_path: Path, directory: Path, rows: Rows) -> None:
    command = ("--with-runtime", "no", "--", "python", "-c", "pass")
    done = _run(*command, cwd=tmp_path, environ={"AQLTELEMETRY_KEEP_BYTES": "3m"})
    assert done.returncode == 0
    assert "keeping 3 MiB or 7 days" in done.stderr
    assert rows("runtime") == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--interval-s", "often"), "--interval-s often: must be a number"),
        (("--keep-s", "0"), "--keep-s 0: must be"),
        (("--template", "routes"), "must be the name of a function, as module:function"),
        (("--keep", "0"), "No such option '--keep'"),
        ((), "Missing argument 'COMMAND...'"),
    ],
)
def test_wrong_options_are_reported_before_the_command_runs(
    tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    command = ("--", "touch", "ran") if options else ()
    done = _run(*options, *command, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("directory_name", "reason"),
    [("file", "must be a directory, not a file"), ("file/below", "Not a directory")],
)
def test_a_command_runs_unrecorded_if_its_directory_cannot_be_used(
    tmp_path: Path, directory_name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    done = _run("--dir", directory_name, "--", "sh", "-c", "echo ran; exit 3", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("ran\n", 3)
    first, last = done.stderr.splitlines()
    assert " runs unrecorded: " in first
    assert " ran unrecorded: " in last
    assert reason in first
    assert reason in last
    done = _run("--dir", directory_name, "--strict", "--", "echo", "ran", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("", 2)
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("KEEP_BYTES", "2XB"), ("INTERVAL_S", "often"), ("WITH_RUNTIME", "perhaps")],
)
def test_a_bad_value_in_the_environment_is_reported_and_the_default_used(
    tmp_path: Path, rows: Rows, name: str, value: str
) -> None:
    environ = {f"AQLTELEMETRY_{name}": value}
    done = _run("python", "-c", "pass", cwd=tmp_path, environ=environ)
    assert done.returncode == 0
    first = done.stderr.splitlines()[0]
    assert f"AQLTELEMETRY_{name}={value!r}: must be" in first
    assert first.endswith("the default is used")
    assert rows("runtime")
    done = _run("--strict", "--", "echo", "ran", cwd=tmp_path, environ=environ)
    assert (done.stdout, done.returncode) == ("", 2)


def test_unrecorded_python_processes_are_listed_with_the_reason(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
import subprocess, sys
wait = "import time; time.sleep(0.6)"
for words in (["-I", "-c", wait], ["-BE", "-c", wait], ["-S", "-c", wait], ["tool.py", "--all"]):
    subprocess.run([sys.executable, *words], check=True)
subprocess.run(["env", "-i", sys.executable, "-c", wait], check=True)
subprocess.run([sys.executable, "child.py"], check=True)
"""
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "tool.py").touch()
    (tmp_path / "child.py").write_text(
        "from aqltelemetry import time_block\nwith time_block('child'): pass"
    )
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = re.sub(r"\([0-9, ]+\)", "(PID)", done.stderr.splitlines()[-1])
    assert last.startswith("aqltelemetry: 5 Python processes were not recorded: ")
    for named in (
        "python -I -c import time; time.sleep(... (PID): ignores its environment (-I)",
        "python -BE -c import time; time.sleep... (PID): ignores its environment (-E)",
        "python -S -c import time; time.sleep(... (PID): starts without the module site (-S)",
        "tool.py --all (PID): serves no requests",
        "python -c import time; time.sleep(0.6) (PID): was started in another environment",
    ):
        assert named in last
    # What uses this package has something to record.
    assert [row["Label"] for row in rows()] == ["child"]


def test_observations_of_other_runs_are_not_counted(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
import os, subprocess, sys
from aqltelemetry import time_block
with time_block("mine"):
    pass
other = "from aqltelemetry import sync, record; sync.start(); record('other', 1); sync.stop()"
environ = {name: text for name, text in os.environ.items() if "_RUN" not in name}
subprocess.run([sys.executable, "-c", other], env=environ, check=True)
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("--with-runtime", "no", "--", "python", "program.py", cwd=tmp_path)
    assert [row["Label"] for row in rows("custom")] == ["other"]
    assert "published: 1 observation (1 duration) of 1 process, 0 dropped, in 1 file" in done.stderr


def test_a_missing_command_is_an_error(tmp_path: Path) -> None:
    done = _run("no-such-command", cwd=tmp_path)
    assert done.returncode == 127
    assert "aqltelemetry: no-such-command: No such file or directory" in done.stderr


def test_a_command_that_records_nothing_is_reported(tmp_path: Path, directory: Path) -> None:
    done = _run("true", cwd=tmp_path)
    assert done.returncode == 0
    assert "no observations: it started no Python process" in done.stderr


def test_a_directory_that_is_switched_off_is_reported(tmp_path: Path, directory: Path) -> None:
    directory.mkdir()
    ControlFiles(str(directory)).switch(on=False)
    done = _run("python", "-c", "pass", cwd=tmp_path)
    assert "recordings there are switched off: aqltelemetry on monitoring" in done.stderr
    assert "no observations: recordings there are switched off" in done.stderr


def test_earlier_files_are_kept_as_long_as_the_options_say(tmp_path: Path, directory: Path) -> None:
    """Also when what a killed process left is published."""
    directory.mkdir()
    stamps = "20200101T000000000000-20200101T000100000000"
    old = directory / f"duration.{stamps}.4123-9f3ab2c47d51e0aa.000001-000012-0.csv"
    old.write_text("Timepoint,Measurement,Label,PID\n")
    program = "import os; os.kill(os.getpid(), 9)"
    done = _run("--keep-s", "1e9", "--", "python", "-c", program, cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL
    assert old.exists()


def test_workers_that_a_program_starts_are_recorded(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    """In each way that there is; a child that was forked has no monitor of its own."""
    program = """
import multiprocessing, sys
from aqltelemetry import time_block
def work(number):
    with time_block("work"):
        return number
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        pool.map(work, range(100))
        pool.close()
        pool.join()
"""
    (tmp_path / "program.py").write_text(program)
    for number, way in enumerate(("fork", "spawn", "forkserver"), start=1):
        done = _run("python", "program.py", way, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(rows()) == number * 100, way


def test_a_program_patched_by_gevent_prints_no_exception(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
from gevent import monkey; monkey.patch_all()
from aqltelemetry import sync, time_block
for _ in range(2):
    with time_block("x"):
        pass
    sync.start("own") if _ == 0 else sync.stop()
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr
    assert len(rows()) == 1


def test_nothing_is_lost_while_one_recording_replaces_another(
    tmp_path: Path, directory: Path, rows: Rows
) -> None:
    program = """
import threading
from aqltelemetry import record, sync
made, done = 0, threading.Event()
def work():
    global made
    while not done.is_set():
        record("x", made)
        made += 1
        if made % 100 == 0:  # no faster than segments are made, on a busy machine too
            done.wait(0.001)
thread = threading.Thread(target=work)
thread.start()
sync.start()
done.set()
thread.join()
sync.stop()
print(made)
"""
    (tmp_path / "program.py").write_text(program)
    done = _run("--journal-bytes", "256m", "--", "python", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert " 0 dropped" in done.stderr
    found = Counter(int(float(row["Measurement"])) for row in rows("custom"))
    assert found == Counter(range(int(done.stdout)))


def test_the_standard_streams_belong_to_the_command(tmp_path: Path) -> None:
    done = _run("sh", "-c", "cat; echo out; echo err >&2; exit 4", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("out\n", 4)
    assert "err\n" in done.stderr
