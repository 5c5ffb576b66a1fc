"""Recording on eventlet's server; refused where an unknown library has replaced threads."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def _run(program: str, directory: Path) -> None:
    """Run a program; a recording that hangs would exceed its time limit."""
    command = [sys.executable, "-c", program, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_application_on_eventlets_server_is_served_and_recorded(
    directory: Path, counts: Callable[..., Counter[str]]
) -> None:
    program = """
import eventlet; eventlet.monkey_patch()
import sys, urllib.request
from eventlet import wsgi
from aqltelemetry.wsgi import TelemetryMiddleware
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
listening = eventlet.listen(("127.0.0.1", 0))
url = "http://127.0.0.1:%d/" % listening.getsockname()[1]
timed = TelemetryMiddleware(app, sys.argv[1])
eventlet.spawn(wsgi.server, listening, timed, log_output=False)
pool = eventlet.GreenPool()
answers = list(pool.imap(lambda _: urllib.request.urlopen(url, timeout=30).read(), range(20)))
assert answers == [b"hello"] * 20
"""
    _run(program, directory)
    assert counts() == {"unmatched": 20, "unmatched ttfb": 20}


def test_eventlet_may_be_set_up_while_a_thread_of_the_recording_works(directory: Path) -> None:
    program = """
import sys, warnings
from queue import SimpleQueue
from aqltelemetry.system.threads import WorkerThread
thread, gate = WorkerThread("aqltelemetry-test"), SimpleQueue()
future = thread.submit(gate.get)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
eventlet.monkey_patch()
gate.put(7)
done = SimpleQueue()
future.add_done_callback(done.put)
assert done.get(timeout=30).result() == 7
"""
    _run(program, directory)


_REPLACED = {
    "_thread": "_thread.start_new_thread = replaced\n",
    "threading": "threading._start_new_thread = threading._start_joinable_thread = replaced\n",
    "both": "_thread.start_new_thread = threading._start_new_thread = replaced\n",
}


@pytest.mark.parametrize("replaced", _REPLACED)
def test_an_unknown_library_that_replaces_threads_is_refused_at_once(
    directory: Path, replaced: str
) -> None:
    """The application is served unrecorded, and what was replaced is not called."""
    program = f"""
import _thread, logging, sys, threading
def replaced(*arguments, **options):
    raise AssertionError("called")
{_REPLACED[replaced]}
from aqltelemetry import sync
from aqltelemetry.recording import recorder
from aqltelemetry.errors import StateError
from aqltelemetry.wsgi import TelemetryMiddleware
for _ in range(2):
    try:
        sync.start(sys.argv[1])
    except StateError as exc:
        assert "__main__ has replaced the threads of Python" in str(exc), exc
    else:
        raise AssertionError("started")
lines = []
class Handler(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("aqltelemetry").addHandler(Handler())
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
timed = TelemetryMiddleware(app, sys.argv[1])
for _ in range(2):
    body = timed({{"REQUEST_METHOD": "GET", "PATH_INFO": "/"}}, lambda *_: None)
    assert list(body) == [b"hello"]
assert len(lines) == 1 and "the application runs unrecorded" in lines[0], lines
assert not recorder.is_on()
"""
    _run(program, directory)
    assert not directory.exists()
