"""What a journal contains is read without touching it, and only again where it may have changed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from aqltelemetry.journal.counters import CounterName, store_counter
from aqltelemetry.journal.format import RECORD_BYTES, VALUE_LAYOUT
from aqltelemetry.journal.sealed import seal
from aqltelemetry.journal.segment import Segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.observation import ACCOUNT, SegmentId
from aqltelemetry.reading.journals import Journals, Place, UnpublishedSegment
from aqltelemetry.recording import in_flight
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import Anchor
from fakes import EPOCH_NS, writer_options
from injection import CALLS


class Recorded:
    """A writer that records numbers into segments, as a process would."""

    def __init__(self, root: Path) -> None:
        self.writer = Writer.in_journal(root, writer_options())
        self.segment = self.next()

    def next(self) -> Segment:
        """Begin the next segment."""
        self.segment = self.writer.new_segment(lambda: None)
        self.segment.append_anchor(Anchor(0, EPOCH_NS))
        return self.segment

    def store(self, value: float, label: str = "own", *, is_torn: bool = False) -> int:
        """Record a number; return where."""
        label_id, at = self.segment.id_of(("custom", label)), next(self.segment.slots)
        assert label_id is not None
        crc = crc32(VALUE_LAYOUT.pack(at, value, label_id), at) ^ is_torn
        VALUE_LAYOUT.store(self.segment.map, at, at, value, label_id, crc)
        return at

    def die(self) -> None:
        """End as a killed process does: nothing is cleaned up, but its lock is free."""
        os.close(self.writer._lock_fd)
        self.writer._lock_fd = -1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "of-a-directory"


@pytest.fixture
def recorded(root: Path) -> Iterator[Recorded]:
    recorded = Recorded(root)
    yield recorded
    if recorded.writer._lock_fd >= 0:
        recorded.die()


@pytest.fixture
def journals(root: Path) -> Journals:
    return Journals([Place(str(root), frozenset({os.geteuid()}))])


def _values(content: UnpublishedSegment, prefix: str = "custom") -> list[float]:
    return [] if prefix not in content.rows else content.rows[prefix].measurements.tolist()


def _all_values(journals: Journals) -> list[float]:
    return sorted(value for content in journals.read().values() for value in _values(content))


def _account(content: UnpublishedSegment) -> dict[str, float]:
    rows = content.rows[ACCOUNT]
    return dict(
        zip(
            [rows.labels[code] for code in rows.label_codes],
            rows.measurements.tolist(),
            strict=True,
        )
    )


def test_a_record_that_is_being_stored_is_read_the_next_time(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1)
    torn = recorded.store(2, is_torn=True)
    recorded.store(3)
    (content,) = journals.read().values()
    assert _values(content) == [1, 3]
    assert _account(content) == {"accepted": 2}
    recorded.segment.map[torn + RECORD_BYTES - 4] ^= 1
    (content,) = journals.read().values()
    assert _values(content) == [1, 2, 3]
    assert _account(content) == {"accepted": 3}


def test_a_spare_segment_contains_nothing(recorded: Recorded, journals: Journals) -> None:
    recorded.store(1)
    spare = recorded.writer.new_segment(lambda: None)
    found = journals.read()
    assert {each.sequence: dict(content.rows) != {} for each, content in found.items()} == {
        recorded.segment.id.sequence: True,
        spare.id.sequence: False,
    }


def test_labels_of_the_writers_table_are_read_when_they_are_new(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1, "before the table")
    recorded.segment.share(recorded.writer.make_table())
    recorded.store(2, "first")
    (content,) = journals.read().values()
    assert content.rows["custom"].labels == ["before the table", "first"]
    recorded.store(3, "second")
    (content,) = journals.read().values()
    assert content.rows["custom"].labels == ["before the table", "first", "second"]


def test_the_table_is_read_again_only_for_a_label_that_is_not_known(
    recorded: Recorded, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.segment.share(recorded.writer.make_table())
    recorded.store(1)
    assert _all_values(journals) == [1]
    opened = _opened(monkeypatch)
    recorded.store(2)
    assert _all_values(journals) == [1, 2]
    assert [path.suffix for path in opened if path.is_file()] == [".seg", ".seg"]


def _opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the paths that are opened from now on, as they are."""
    paths: list[Path] = []
    real = syscalls.open_file

    def open_file(path: Any, flags: int, mode: int = 0o600) -> int:
        paths.append(Path(path))
        return real(path, flags, mode)

    monkeypatch.setattr(syscalls, "open_file", open_file)
    return paths


def test_a_sealed_segment_is_read_once(
    recorded: Recorded, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.store(1)
    sealed = seal(recorded.segment)
    recorded.next()
    recorded.store(2)
    before = journals.read()
    opened = _opened(monkeypatch)
    recorded.store(3)
    after = journals.read()
    assert sealed.path not in opened
    assert recorded.segment.path in opened
    assert after[sealed.id] is before[sealed.id]
    assert _values(after[recorded.segment.id]) == [2, 3]


def test_a_full_segment_is_read_once(recorded: Recorded, journals: Journals) -> None:
    for number in range(recorded.segment.capacity - 1):
        recorded.store(number)
    (content,) = journals.read().values()
    assert not content.is_final
    recorded.store(-1)
    (content,) = journals.read().values()
    assert content.is_final
    assert len(_values(content)) == recorded.segment.capacity


def test_a_sealed_segment_with_a_late_record_is_read_until_that_is_stored(
    recorded: Recorded, journals: Journals
) -> None:
    late = recorded.store(1, is_torn=True)
    recorded.store(2)
    seal(recorded.segment)
    assert _all_values(journals) == [2]
    recorded.segment.map[late + RECORD_BYTES - 4] ^= 1
    assert _all_values(journals) == [1, 2]
    (content,) = journals.read().values()
    assert content.is_final


def test_a_dead_writer_is_not_read_again_and_its_lock_is_taken_once(
    recorded: Recorded, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.store(1)
    recorded.store(2, is_torn=True)
    assert _all_values(journals) == [1]
    assert journals.running == {recorded.writer.name}
    recorded.die()
    assert _all_values(journals) == [1]
    assert journals.running == set()
    opened = _opened(monkeypatch)
    assert _all_values(journals) == [1]
    assert opened == []


def test_the_account_of_a_dead_writer_says_what_was_lost_and_how_it_ended(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1)
    first = seal(recorded.segment)
    recorded.next()
    recorded.store(2)
    recorded.store(3, is_torn=True)
    store_counter(recorded.segment, CounterName.NO_SEGMENT, 7, at_ns=5)
    recorded.writer.new_segment(lambda: None)
    journals.read()
    recorded.die()
    found = journals.read()
    assert _account(found[first.id]) == {"accepted": 1}
    assert _account(found[recorded.segment.id]) == {
        "accepted": 2,
        "dropped torn": 1,
        "end": 0,
        "dropped no segment": 7,
    }


def test_a_recording_that_was_stopped_says_so_before_it_is_published(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1)
    store_counter(recorded.segment, CounterName.ENDED, 1)
    seal(recorded.segment)
    recorded.die()
    (content,) = journals.read().values()
    assert _account(content) == {"accepted": 1, "end": 1}


def test_a_damaged_segment_is_read_as_recovery_reads_it(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1)
    damaged = seal(recorded.segment)
    assert damaged.path is not None
    with damaged.path.open("r+b") as file:
        file.write(b"damaged")
    recorded.next()
    recorded.store(2)
    recorded.die()
    content = journals.read()[damaged.id]
    assert _values(content) == [1]
    assert content.pid == os.getpid()


def test_a_link_in_place_of_a_segment_is_a_problem_of_that_segment_alone(
    recorded: Recorded, journals: Journals, tmp_path: Path
) -> None:
    recorded.store(1)
    assert recorded.writer.path is not None
    link = recorded.writer.path / "000009.seg"
    link.symlink_to(tmp_path)
    assert _all_values(journals) == [1]
    assert list(journals.problems) == [str(link)]


def test_a_lack_of_descriptors_loses_nothing_that_was_read_before(
    recorded: Recorded, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.store(1)
    assert _all_values(journals) == [1]

    def open_file(path: Any, flags: int, mode: int = 0o600) -> int:
        if str(path).endswith(".seg"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, mode)

    real = syscalls.open_file
    monkeypatch.setattr(syscalls, "open_file", open_file)
    assert _all_values(journals) == [1]
    assert "Too many open files" in journals.problems[str(recorded.segment.path)]


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_journal_that_others_may_write_to_is_not_read(
    recorded: Recorded, journals: Journals, root: Path, mode: int
) -> None:
    recorded.store(1)
    root.chmod(mode)
    assert journals.read() == {}
    assert list(journals.problems) == [str(root)]
    assert not journals.has(recorded.segment.id)


def test_a_journal_of_another_user_is_not_read(recorded: Recorded, root: Path) -> None:
    recorded.store(1)
    journals = Journals([Place(str(root), frozenset({os.geteuid() + 1}))])
    assert journals.read() == {}
    assert list(journals.problems) == [str(root)]


def test_a_journal_that_may_not_be_looked_into_is_a_problem(
    recorded: Recorded, journals: Journals, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_directory(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    recorded.store(1)
    monkeypatch.setattr(syscalls, "list_directory", list_directory)
    assert journals.read() == {}
    assert "Permission denied" in journals.problems[str(root)]


def test_a_journal_that_may_not_even_exist_is_hidden(
    recorded: Recorded, journals: Journals, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_at(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    recorded.store(1)
    monkeypatch.setattr(syscalls, "look_at", look_at)
    assert journals.read() == {}
    assert list(journals.problems) == [*journals.hidden] == [str(root)]


def test_a_place_without_a_journal_contains_nothing(journals: Journals) -> None:
    assert journals.read() == {}
    assert journals.problems == {}
    assert not journals.has(SegmentId("0123456789abcdef", 1))


def test_a_segment_exists_until_it_is_removed(recorded: Recorded, journals: Journals) -> None:
    sealed = seal(recorded.segment)
    journals.read()
    assert journals.has(sealed.id)
    sealed.discard()
    assert not journals.has(sealed.id)


def test_a_writer_whose_directory_vanishes_is_forgotten(
    recorded: Recorded, journals: Journals
) -> None:
    recorded.store(1)
    assert _all_values(journals) == [1]
    assert recorded.writer.path is not None
    shutil.rmtree(recorded.writer.path)
    assert _all_values(journals) == []
    assert journals.problems == {}
    assert journals.running == set()


def test_reading_changes_nothing_and_uses_calls_that_can_not(
    recorded: Recorded, journals: Journals, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[str] = set()

    def noting(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            used.add(name)
            return real(*arguments, **options)

        return call

    for value in range(10):
        recorded.store(value)
    seal(recorded.segment)
    recorded.next()
    recorded.store(10)
    before = _state(root)
    for place, name in CALLS:
        monkeypatch.setattr(place, name, noting(getattr(place, name), name))
    assert len(_all_values(journals)) == 11
    recorded.die()
    assert len(_all_values(journals)) == 11
    assert used == {"open_file", "close", "read", "describe", "look_at", "lock", "list_directory"}
    assert _state(root) == before


def _state(root: Path) -> dict[Path, tuple[bytes, int, int]]:
    states = {path: path.lstat() for path in root.rglob("*")}
    return {
        path: (path.read_bytes() if path.is_file() else b"", state.st_mtime_ns, state.st_mode)
        for path, state in states.items()
    }


def test_the_requests_that_a_running_process_handles_are_read_from_its_slots(
    recorded: Recorded, journals: Journals
) -> None:
    name, before = recorded.writer.name, in_flight.installed()
    journals.read()
    assert journals.requests() == {}  # one that has no slots
    in_flight.install(recorded.writer.make_in_flight(5, EPOCH_NS, ""))
    try:
        in_flight.claim("GET", "/slow", 7)
        handle = in_flight.claim("GET", "/fast", 8)
        assert [each.text for each in journals.requests()[name].requests] == [
            "GET /slow",
            "GET /fast",
        ]
        in_flight.release(handle)
        assert len(journals.requests()[name].requests) == 1
    finally:
        in_flight.install(before)
    recorded.die()
    journals.read()
    assert journals.requests() == {}
