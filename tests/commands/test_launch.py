"""A command below `run` behaves as it does alone: its signals, its end, its children."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aqltelemetry.commands import launch
from aqltelemetry.errors import CommandError
from servers import wait_until

pytestmark = pytest.mark.system

_RUN = (
    "import os, sys; from aqltelemetry.commands.launch import end_as, run; "
    "sys.exit(end_as(run(sys.argv[1:], os.environ)))"
)
_COUNT_SIGNALS = """
import signal, sys, time
seen = []
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGTTIN"):
    signal.signal(getattr(signal, name), lambda number, frame: seen.append(number))
open(sys.argv[1], "w").close()
while signal.SIGTERM not in seen:
    time.sleep(0.01)
time.sleep(0.2)  # for one that comes twice
print(sorted(seen))
"""


def _command(*command: str) -> list[str]:
    return [sys.executable, "-c", _RUN, *command]


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_passes_through(code: int) -> None:
    command = _command(sys.executable, "-c", f"raise SystemExit({code})")
    assert subprocess.run(command, check=False).returncode == code


def test_the_exit_status_for_a_signal_is_that_of_a_shell() -> None:
    command = _command("sh", "-c", "kill -KILL $$")
    assert subprocess.run(command, check=False).returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_command_that_a_signal_stopped_ends_run_by_the_same_signal(name: str) -> None:
    """So that systemd treats it as a clean stop, as without `run`."""
    done = subprocess.run(_command("sh", "-c", f"kill -{name} $$"), check=False)
    assert done.returncode == -getattr(signal, f"SIG{name}")


def test_each_signal_reaches_the_command_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = _command(sys.executable, "-c", _COUNT_SIGNALS, str(ready))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_until(ready.exists, "the command's start")
    sent = [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTERM]
    for number in sent:
        process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output == f"{sorted(int(number) for number in sent)}\n"
    assert process.returncode == 0


def test_a_signal_of_the_terminal_reaches_the_command_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    pid, terminal = pty.fork()
    if not pid:
        command = _command(sys.executable, "-c", _COUNT_SIGNALS, str(ready))
        os.execv(command[0], command)
    wait_until(ready.exists, "the command's start")
    os.write(terminal, b"\x03")
    wait_until(lambda: b"^C" in os.read(terminal, 100), "the terminal's echo")
    os.kill(pid, signal.SIGTERM)
    output = b""
    while b"]" not in output:
        output += os.read(terminal, 1000)
    assert f"[{int(signal.SIGINT)}, {int(signal.SIGTERM)}]" in output.decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)


def test_the_end_of_a_command_is_noticed_though_sigchld_was_ignored() -> None:
    """As a supervisor may do."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, *_command("sh", "-c", "exit 3")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 3


def test_a_broken_pipe_ends_the_command() -> None:
    """Python ignores it for itself, and what it starts would too."""
    script = "yes | head -1; echo ${PIPESTATUS[0]}"
    done = subprocess.run(
        _command("bash", "-c", script), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"y\n{128 + signal.SIGPIPE}\n", "")


def test_no_signal_is_blocked_in_the_command() -> None:
    program = "import signal; print(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    done = subprocess.run(
        _command(sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize(("mode", "code"), [(None, 127), (0o644, 126)])
def test_a_command_that_cannot_be_run_is_an_error(
    tmp_path: Path, mode: int | None, code: int
) -> None:
    path = tmp_path / "command"
    if mode is not None:
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
    with pytest.raises(CommandError) as caught:
        launch.run([str(path)], os.environ)
    assert caught.value.exit_code == code
    assert str(path) in str(caught.value)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_the_first_process_of_a_container_reaps_orphans(
    namespaces: Callable[..., list[str]],
) -> None:
    """A grandchild whose parent has ended becomes the first process's, and a zombie at its end."""
    script = "(sh -c : & exec sleep 0.2) & sleep 0.5; ps -o stat= --ppid 1"
    done = subprocess.run(
        namespaces(*_command("sh", "-c", script)), capture_output=True, text=True, check=True
    )
    assert "Z" not in done.stdout
    assert done.stdout.strip()


def test_the_environment_extends_that_of_the_caller(tmp_path: Path) -> None:
    found = launch.environment(
        "/there", {"interval_s": "0.5"}, {"PYTHONPATH": "/mine", "HOME": "/root"}
    )
    assert found["PYTHONPATH"].split(os.pathsep)[1:] == ["/mine"]
    assert (Path(found["PYTHONPATH"].split(os.pathsep)[0]) / "sitecustomize.py").exists()
    assert found["HOME"] == "/root"
    assert found["AQLTELEMETRY_DIR"] == "/there"
    assert found["AQLTELEMETRY_INTERVAL_S"] == "0.5"
