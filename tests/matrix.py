"""The ends of Gunicorn's workers: what is done to them, and what must be in the files then.

The blocking handler is added to the applications of `servers`. The matrix of what
was found is printed at the end of a run of the tests.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from servers import PROGRAMS, WORKERS, Clients, children, gunicorn, wait_until

RECORDED = "/users/{user} [GET]"
CELL = "worker and end"
"""The property of a test's report that holds a cell: worker, end, answered, in the files."""
_WORKERS = 2
_THREADS = 4
_MAX_REQUESTS = 100
_SOME = 100
# Ends at which Gunicorn itself answers 500 to requests in progress.
_CUTS = ("INT", "QUIT")
# Blocks a worker for ever; in C where other threads would otherwise report to Gunicorn's master
# that the worker is alive.
_BLOCKS = {
    "sync": "import time; time.sleep(600)",
    "gthread": "import ctypes; ctypes.PyDLL(None).sleep(600)",
    "gevent": "import gevent.monkey as m; m.get_original('time', 'sleep')(600)",
}
_ROUTES = {
    "flask": '\n@app.get("/block")\ndef block():\n    {block}\n',
    "starlette": '\nasync def block(request):\n    {block}\napp.add_route("/block", block)\n',
    "aiohttp": '\nasync def block(request):\n    {block}\napp.router.add_get("/block", block)\n',
}


@dataclass
class Cell:
    """What was seen of a worker class's end: requests answered, by worker, and not answered."""

    answered: Counter[int]
    failed: int = 0
    killed: set[int] = field(default_factory=set)
    unsure: int = 0
    """How many answered requests a killed worker may not have recorded yet."""


@dataclass
class Service:
    """A server under load."""

    worker: str
    master: subprocess.Popen[bytes]
    port: int
    clients: Clients
    cell: Cell
    blocked: Path
    """Is made by a request that blocks its worker."""

    def wait_for_all(self) -> None:
        """Wait until each worker there is has answered, so records and can be stopped."""
        before = self.clients.answered.total()
        wait_until(
            lambda: self._all_answered() and self.clients.answered.total() >= before + _SOME,
            f"{_WORKERS} workers that record",
        )

    def wait_for_others_than(self, workers: set[int]) -> None:
        """Wait until none of these workers is left, and then for all."""
        wait_until(lambda: not workers & children(self.master.pid), "the end of a worker")
        self.wait_for_all()

    @contextlib.contextmanager
    def grace(self) -> Iterator[None]:
        """Spare a worker that has to end its clients, if it is of the class that can't bear them.

        On asyncio's own loop aiohttp waits for connections that it took while it closed.
        """
        if self.worker != "aiohttp.GunicornWebWorker":
            yield
            return
        self.clients.stop()
        yield
        self.clients.start()

    def _all_answered(self) -> bool:
        answered = self.clients.answered
        there = children(self.master.pid)
        return len(there) == _WORKERS and all(answered[pid] for pid in there)


def _stop(service: Service) -> None:
    """Go on to what each run ends with: SIGTERM to the master, under load."""


def _reload(service: Service) -> None:
    old = children(service.master.pid)
    with service.grace():
        service.master.send_signal(signal.SIGHUP)
        wait_until(lambda: not old & children(service.master.pid), "the end of a worker")
    service.wait_for_all()


def _recycle(service: Service) -> None:
    old = children(service.master.pid)
    answered = service.clients.answered
    # Some end at once when they have answered as many, others look once a second.
    wait_until(
        lambda: all(answered[pid] > _MAX_REQUESTS for pid in old & children(service.master.pid)),
        "enough requests",
    )
    with service.grace():
        wait_until(lambda: not old & children(service.master.pid), "the end of a worker")
    service.wait_for_all()


def _block(service: Service) -> None:
    old = children(service.master.pid)
    blocked = threading.Thread(target=_ask_to_block, args=(service.port,))
    blocked.start()
    wait_until(lambda: not old <= children(service.master.pid), "the end of a blocked worker")
    service.cell.killed |= old - children(service.master.pid)
    # Another thread of it may have been between its answer and its record.
    service.cell.unsure = _THREADS if service.worker == "gthread" else 0
    service.wait_for_others_than(service.cell.killed)
    blocked.join()


def _ask_to_block(port: int) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/block", timeout=60).close()


def _kill(service: Service) -> None:
    killed = min(children(service.master.pid))
    _may_be_answering(service, {killed})
    os.kill(killed, signal.SIGKILL)
    service.wait_for_others_than({killed})


def _interrupt(service: Service) -> None:
    ended = min(children(service.master.pid))
    _may_be_answering(service, {ended})
    os.kill(ended, signal.SIGINT)
    service.wait_for_others_than({ended})


def _quit(service: Service) -> None:
    _may_be_answering(service, children(service.master.pid))
    service.master.send_signal(signal.SIGQUIT)
    service.master.wait(60)


def _be_stuck(service: Service) -> None:
    """Stop during a request that never ends: its worker is killed after the graceful timeout."""
    old = children(service.master.pid)
    stuck = threading.Thread(target=_ask_to_block, args=(service.port,))
    stuck.start()
    wait_until(service.blocked.exists, "a blocked worker")
    service.cell.killed |= old
    service.cell.unsure = _THREADS if service.worker == "gthread" else 0
    with service.grace():
        service.master.send_signal(signal.SIGTERM)
        service.master.wait(60)
    stuck.join()


def _may_be_answering(service: Service, workers: set[int]) -> None:
    service.cell.killed |= workers
    service.cell.unsure = _THREADS if service.worker in ("gthread", "gevent") else 1


ENDS: dict[str, tuple[Callable[[Service], None], Sequence[str]]] = {
    "stop": (_stop, ()),
    "reload": (_reload, ()),
    "max requests": (_recycle, ("--max-requests", str(_MAX_REQUESTS))),
    "timeout": (_block, ("--timeout", "2")),
    "kill": (_kill, ()),
    "INT": (_interrupt, ()),
    "QUIT": (_quit, ("--graceful-timeout", "2")),
    "stuck": (_be_stuck, ("--graceful-timeout", "2")),
}
"""What is done to workers, and the options it needs."""


def run(worker: str, end: str, cwd: Path) -> Cell:
    """Have workers of a class end in a way, under load; return what was seen of that.

    They record into `cwd/monitoring`.
    """
    kind = WORKERS[worker]
    block = f"open('blocked', 'w').close(); {_BLOCKS.get(worker, _BLOCKS['sync'])}"
    (cwd / "app.py").write_text(PROGRAMS[kind] + _ROUTES[kind].format(block=block))
    do, options = ENDS[end]
    threads = ("--threads", str(_THREADS)) if worker == "gthread" else ()
    common = ("--config", "python:aqltelemetry.gunicorn", "--graceful-timeout", "10", "app:app")
    sort = ("--worker-class", worker, "--workers", str(_WORKERS))
    command = (*common, *sort, *threads, *options)
    environ = {name: text for name, text in os.environ.items() if "AQLTELEMETRY" not in name}
    environ["AQLTELEMETRY_DIR"] = str(cwd / "monitoring")
    # Often, so that an end meets every stage from the journal to the files.
    environ |= {"AQLTELEMETRY_FLUSH_INTERVAL_S": "0.1", "AQLTELEMETRY_MAX_FILE_AGE_S": "0.3"}
    with gunicorn(command, cwd, environ) as (master, port):
        clients = Clients(port)
        service = Service(worker, master, port, clients, Cell(clients.answered), cwd / "blocked")
        clients.start()
        try:
            service.wait_for_all()
            do(service)
            with service.grace():
                master.send_signal(signal.SIGTERM)
                master.wait(60)
        finally:
            clients.stop()
    cut = [each for each in clients.wrong if end in _CUTS and _is_cut(each)]
    assert len(clients.wrong) == len(cut), clients.wrong
    service.cell.failed = clients.failed + len(cut)
    return service.cell


def _is_cut(answer: str) -> bool:
    # Gunicorn answers 500 to an interrupted request, also after a part of the response.
    return answer.startswith("500 ") or "HTTP/1." in answer


def check(cell: Cell, found: Counter[int]) -> None:
    """Compare what was answered with what is in the files, worker by worker."""
    for pid in {*cell.answered, *found}:
        if pid in cell.killed:
            assert cell.answered[pid] - cell.unsure <= found[pid], "lost"
            # What was in flight may have been recorded, though not answered.
            assert found[pid] <= cell.answered[pid] + cell.failed, "counted twice"
        else:
            assert found[pid] == cell.answered[pid]


def show(reporter: pytest.TerminalReporter) -> None:
    """Print the matrix of the cells that were run."""
    cells = {
        (worker, end): f"{answered} / {found}"
        for reports in reporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == CELL
        for worker, end, answered, found in (value,)
    }
    if not cells:
        return
    reporter.section("Gunicorn's workers and their ends: requests answered / in the files")
    reporter.write_line(" " * 32 + "".join(f"{end:>14}" for end in ENDS))
    for worker in WORKERS:
        row = (cells.get((worker, end), "-") for end in ENDS)
        reporter.write_line(f"{worker:32}" + "".join(f"{each:>14}" for each in row))
