from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry.autopsy.publication import autopsy_of, is_notable, publish_autopsy
from aqltelemetry.journal.dead_writers import DeadWriter, lock_dead_writers
from aqltelemetry.journal.evidence import EXIT_NAME, LAST_WORDS_NAME, write_evidence
from aqltelemetry.journal.exit_note import note_exit
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording import in_flight, last_words
from aqltelemetry.sinks import autopsies
from aqltelemetry.system.clock import read_anchor
from fakes import writer_options


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """A writer that is dead, with a request in flight."""
    root = tmp_path / "journal"
    root.mkdir(mode=0o700)
    made = Writer.in_journal(root, writer_options())
    anchor = read_anchor()
    before = in_flight.installed()
    in_flight.install(made.make_in_flight(*anchor, ""))
    in_flight.claim("GET", "/users/7?token=secret", anchor.at_ns)
    in_flight.install(before)
    made.store_routes(["/users/{id}"])
    made.abandon_in_child()  # closes the lock, as the end of a process does
    return made


def _dead(writer: Writer) -> DeadWriter:
    assert writer.path is not None
    (dead,) = lock_dead_writers(writer.path.parent)
    return dead


def test_an_autopsy_is_published_once_as_json_and_as_text(tmp_path: Path, writer: Writer) -> None:
    assert publish_autopsy(str(tmp_path), _dead(writer))
    (found,) = autopsies.read(str(tmp_path))
    assert [each["route"] for each in found["in_flight"]] == ["/users/{id} [GET]"]
    (text,) = tmp_path.glob("autopsy.*.txt")
    assert "/users/{id} [GET]" in text.read_text()
    assert "secret" not in text.read_text() + json.dumps(found)
    assert not list((tmp_path / "journal").iterdir())
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert len(names) == 2
    assert all(autopsies.parse(name) is not None for name in names)


def test_a_process_that_left_nothing_unusual_has_no_autopsy(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.mkdir(mode=0o700)
    made = Writer.in_journal(root, writer_options())
    made.make_in_flight(*read_anchor(), "")
    made.abandon_in_child()
    assert not publish_autopsy(str(tmp_path), _dead(made))
    assert not list(tmp_path.glob("autopsy*"))
    assert not list(root.iterdir())


def test_a_parent_notes_how_its_child_ended(tmp_path: Path, writer: Writer) -> None:
    assert writer.path is not None
    root = writer.path.parent
    assert not note_exit([root], writer.pid + 1, -9, "Gunicorn")
    assert note_exit([root], writer.pid, -9, "Gunicorn", 30.0)
    found = autopsy_of(str(tmp_path), writer.path)
    assert is_notable(found)
    assert {name: found["cause"][name] for name in ("kind", "signal", "timeout_s", "witness")} == {
        "kind": "timeout",
        "signal": "SIGKILL",
        "timeout_s": 30.0,
        "witness": "Gunicorn",
    }


_HOLDS_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_a_parent_notes_how_its_child_ended_though_another_process_recovers_it(
    tmp_path: Path, writer: Writer
) -> None:
    assert writer.path is not None
    command = [sys.executable, "-S", "-c", _HOLDS_LOCK, str(writer.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as recovering:
        assert recovering.stdout is not None
        recovering.stdout.readline()
        assert note_exit([writer.path.parent], writer.pid, -11, "uvicorn")
        recovering.communicate()
    assert autopsy_of(str(tmp_path), writer.path)["cause"]["signal"] == "SIGSEGV"


def test_a_living_process_gets_no_note(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.mkdir(mode=0o700)
    made = Writer.in_journal(root, writer_options())
    made.make_in_flight(*read_anchor(), "")
    assert not note_exit([root], made.pid, -9, "Gunicorn")
    made.close()


def test_damaged_evidence_is_left_out(tmp_path: Path, writer: Writer) -> None:
    assert writer.path is not None
    for name in (EXIT_NAME, LAST_WORDS_NAME):
        (writer.path / name).write_text("{")
        (writer.path / name).chmod(0o600)
    with (writer.path / "in-flight").open("r+b") as file:
        file.write(b"x")
    assert not publish_autopsy(str(tmp_path), _dead(writer))
    assert not list((tmp_path / "journal").iterdir())


def test_last_words_hold_the_requests_and_the_stacks(tmp_path: Path, writer: Writer) -> None:
    assert writer.path is not None
    last_words.keep_in(writer.path)
    try:
        last_words.say("aborted")
        said = (writer.path / LAST_WORDS_NAME).read_text()
        last_words.say("SystemExit")
        assert (writer.path / LAST_WORDS_NAME).read_text() == said  # the first ones count
    finally:
        last_words.keep_in(None)
    last_words.say("SystemExit")
    found = autopsy_of(str(tmp_path), writer.path)
    assert (found["cause"]["kind"], found["cause"]["said"]) == ("timeout", "aborted")
    frames = [frame for stack in found["stacks"] for frame in stack["frames"]]
    assert any(
        frame.endswith("test_last_words_hold_the_requests_and_the_stacks") for frame in frames
    )


def test_last_words_stay_when_the_recording_stops_with_the_process(
    tmp_path: Path,
) -> None:
    root = tmp_path / "journal"
    root.mkdir(mode=0o700)
    made = Writer.in_journal(root, writer_options())
    made.make_in_flight(*read_anchor(), "")
    assert made.path is not None
    write_evidence(made.path, LAST_WORDS_NAME, {"at_ns": 1})
    made.close()
    assert _dead(made).has_evidence
