from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry import Monitor, TelemetryDB, time_block
from aqltelemetry.audit.verify import verify
from aqltelemetry.shipping import run as running
from aqltelemetry.shipping.run import Job, run
from aqltelemetry.shipping.shipper import Surroundings
from aqltelemetry.shipping.target import Target
from memory_destination import MemoryDestination, publish

_URL = "postgresql://db/there"


async def _record(directory: Path) -> None:
    async with Monitor(directory, keep_bytes=0):
        with time_block("work"):
            pass


async def test_retention_verify_and_readers_ignore_the_ledger(
    directory: Path, tmp_path: Path
) -> None:
    """Even with copies of files in its directory."""
    publish(directory, 1, writer="b" * 16)
    before = TelemetryDB(directory).duration().data()
    state = directory / ".ship"
    publish(state, 2, writer="c" * 16)
    (state / "postgresql-0.sqlite").write_bytes(b"")
    assert len(TelemetryDB(directory).duration().data()) == len(before)
    writers = {each.writer for each in verify(directory, [directory / ".journal"])}
    assert writers == {"b" * 16}
    await _record(directory)  # whose retention removes all that it may
    assert len([*state.iterdir()]) == 2


def test_the_ledger_is_in_the_first_directory_or_in_the_given_one(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    job = Job([one, two], Target(_URL))
    assert job.ledger_path.startswith(f"{one}/.ship/postgresql-")
    assert Job([one], Target(_URL), state=two).ledger_path.startswith(f"{two}/postgresql-")


def test_a_run_ships_connects_under_the_name_of_its_ledger_and_disconnects(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(directory)
    there = MemoryDestination()
    targets: list[Target] = []

    def make(target: Target) -> MemoryDestination:
        targets.append(target)
        return there

    monkeypatch.setattr(running, "make_destination", make)
    job = Job([str(directory)], Target(_URL))
    assert run(job, Surroundings()).files == 1
    assert run(job, Surroundings()).files == 0
    first, second = targets[1::2]
    assert first.shipper == second.shipper != ""


_STOPPED = """
import sys
from aqltelemetry.commands.cli import main
from aqltelemetry.shipping import run, shipper
shipper.STOP_S, run.EXIT_S = 0.1, 0.2
main(["ship", sys.argv[1], "--to", sys.argv[2]])
"""


@pytest.mark.system
def test_a_signal_ends_a_shipper_whose_client_waits_for_an_answer_on_a_thread(
    directory: Path,
) -> None:
    publish(directory)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/there"
        command = [sys.executable, "-c", _STOPPED, str(directory), url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as shipper:
            try:
                silent.settimeout(60)
                connection, _ = silent.accept()
                with connection:
                    shipper.send_signal(signal.SIGTERM)
                    _, errors = shipper.communicate(timeout=60)
            finally:
                shipper.kill()
    assert shipper.returncode == 0, errors
