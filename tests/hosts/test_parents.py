"""The processes that start workers note how these ended."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from aqltelemetry.hosts import gunicorn, parents
from aqltelemetry.journal.evidence import read_evidence
from aqltelemetry.journal.location import all_roots
from aqltelemetry.journal.writer import Writer
from aqltelemetry.settings import settings
from aqltelemetry.system.clock import read_anchor
from fakes import writer_options


class _Process:
    """A worker of uvicorn; `code` is its exit status, None while it runs."""

    def __init__(self, pid: int, code: int | None) -> None:
        self.pid = pid
        self.exitcode = code
        self.config = SimpleNamespace(timeout_worker_healthcheck=7)

    def kill(self) -> None:
        if self.exitcode is None:
            self.exitcode = -signal.SIGKILL

    def join(self) -> None:
        pass


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A writer whose process is dead, in the journal that the environment names."""
    monkeypatch.setenv("AQLTELEMETRY_DIR", str(tmp_path / "monitoring"))
    monkeypatch.setenv("AQLTELEMETRY_JOURNAL_DIR", str(tmp_path / "journal"))
    chosen = settings()
    root = next(iter(all_roots(chosen.directory, chosen.journal_dir)))
    root.mkdir(mode=0o700, parents=True)
    made = Writer.in_journal(root, writer_options())
    made.make_in_flight(*read_anchor(), "")
    made.abandon_in_child()  # closes the lock, as the end of a process does
    return made


def _noted(writer: Writer) -> dict[str, Any]:
    assert writer.path is not None
    found = read_evidence(writer.path).exit
    return {name: found.get(name) for name in ("signal", "code", "witness", "timeout_s")}


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (-11, {"signal": 11, "code": None, "witness": "uvicorn", "timeout_s": None}),
        (3, {"signal": None, "code": 3, "witness": "uvicorn", "timeout_s": None}),
        (None, {"signal": 9, "code": None, "witness": "uvicorn", "timeout_s": 7.0}),
        (0, dict.fromkeys(("signal", "code", "witness", "timeout_s"))),
    ],
)
def test_uvicorns_parent_notes_how_a_worker_ended(
    dead: Writer, code: int | None, wanted: dict[str, Any]
) -> None:
    kind = type("_Patched", (_Process,), {})
    parents.patch_uvicorn(kind)
    process = kind(dead.pid, code)
    process.kill()  # uvicorn kills a worker that does not answer, whether it runs or not
    process.join()
    assert _noted(dead) == wanted


def test_gunicorns_master_notes_how_a_worker_ended_with_each_configuration() -> None:
    calls = []
    own = Config()
    own.set("child_exit", lambda server, worker: calls.append((server, worker)))

    class Arbiter:
        def setup(self, app: Any) -> None:
            self.cfg = app.cfg

    parents.patch_gunicorn(Arbiter)
    arbiter: Any = Arbiter()
    arbiter.setup(SimpleNamespace(cfg=own))
    arbiter.cfg.child_exit("server", "worker")
    assert calls == [("server", "worker")]
    ours = Config()
    ours.set("child_exit", gunicorn.child_exit)
    arbiter.setup(SimpleNamespace(cfg=ours))
    assert arbiter.cfg.child_exit is gunicorn.child_exit
    arbiter.setup(SimpleNamespace(cfg=None))  # another version of Gunicorn
