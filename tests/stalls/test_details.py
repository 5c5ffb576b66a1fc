"""Details of stalls are published whole, also those of a killed process."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aqltelemetry.sinks import stall_details
from aqltelemetry.stalls import details
from aqltelemetry.stalls.details import DetailsFile
from aqltelemetry.system import syscalls
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.threads import WorkerThread

_WRITER = "00112233445566aa"


def _detail(begin_ns: int, cause: str = "blocking wait") -> dict[str, Any]:
    return {
        "version": 1,
        "begin_ns": begin_ns,
        "end_ns": begin_ns + NS_PER_S,
        "length_s": 1.0,
        "pid": os.getpid(),
        "cause": cause,
    }


@pytest.fixture
def new_file(tmp_path: Path, thread: WorkerThread) -> Callable[[], DetailsFile]:
    def make() -> DetailsFile:
        return DetailsFile(str(tmp_path), _WRITER, 60, thread)

    return make


def _read(directory: Path) -> list[dict[str, Any]]:
    return list(stall_details.read([str(directory)], with_unpublished=False))


def test_details_are_published_at_the_end_under_a_name_with_their_times(
    tmp_path: Path, new_file: Callable[[], DetailsFile]
) -> None:
    file = new_file()
    file.add(_detail(5 * NS_PER_S))
    file.add(_detail(7 * NS_PER_S, "no CPU"))
    assert _read(tmp_path) == []
    file.close()
    file.add(_detail(9 * NS_PER_S))
    (path,) = tmp_path.iterdir()
    name = stall_details.parse(path.name)
    assert name is not None
    assert (name.writer, name.pid, name.prefix) == (_WRITER, os.getpid(), "stall-details")
    assert (name.from_ns, name.to_ns) == (5 * NS_PER_S, 8 * NS_PER_S + 1000)
    assert [each["cause"] for each in _read(tmp_path)] == ["blocking wait", "no CPU"]
    assert {each["writer"] for each in _read(tmp_path)} == {_WRITER}


def test_a_file_that_another_process_takes_before_it_is_locked_is_opened_again(
    tmp_path: Path, new_file: Callable[[], DetailsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = syscalls.lock, [1, 2]

    def late(fd: int) -> None:
        if taken:
            taken.pop()
            assert stall_details.recover(str(tmp_path)) == 0
        lock(fd)

    monkeypatch.setattr(details, "syscalls", SimpleNamespace(**{**vars(syscalls), "lock": late}))
    file = new_file()
    file.add(_detail(5 * NS_PER_S))
    file.close()
    assert not taken
    assert len(_read(tmp_path)) == 1


def test_a_file_system_without_locks_costs_no_descriptors(
    new_file: Callable[[], DetailsFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(details, "syscalls", SimpleNamespace(**{**vars(syscalls), "lock": lock}))
    file = new_file()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        file.add(_detail(number * NS_PER_S))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_killed_process_left_is_published_without_its_torn_line(tmp_path: Path) -> None:
    left = tmp_path / stall_details.temporary(_WRITER, 1)
    whole = json.dumps({**_detail(NS_PER_S), "writer": _WRITER}) + "\n"
    left.write_text(whole + whole[: len(whole) // 2])
    assert stall_details.recover(str(tmp_path)) == 1
    (path,) = tmp_path.iterdir()
    assert path.read_text() == whole
    assert len(_read(tmp_path)) == 1


def test_a_last_line_that_lacks_only_its_end_is_shown_before_and_after_its_publication(
    tmp_path: Path,
) -> None:
    left = tmp_path / stall_details.temporary(_WRITER, 1)
    whole = json.dumps({**_detail(NS_PER_S), "writer": _WRITER}) + "\n"
    left.write_text((whole + whole)[:-1])
    before = list(stall_details.read([str(tmp_path)], with_unpublished=True))
    assert stall_details.recover(str(tmp_path)) == 1
    (path,) = tmp_path.iterdir()
    assert path.read_text() == whole + whole
    assert _read(tmp_path) == before


def test_a_file_without_a_whole_line_is_removed(tmp_path: Path) -> None:
    (tmp_path / stall_details.temporary(_WRITER, 1)).write_text('{"version":1,"be')
    assert stall_details.recover(str(tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_running_process_is_left_to_it(
    tmp_path: Path, new_file: Callable[[], DetailsFile]
) -> None:
    file = new_file()
    file.add(_detail(NS_PER_S))
    assert stall_details.recover(str(tmp_path)) == 0
    unpublished = stall_details.read([str(tmp_path)], with_unpublished=True)
    assert len(list(unpublished)) == 1
    file.close()


def test_a_directory_that_is_gone_raises_nothing(
    tmp_path: Path, new_file: Callable[[], DetailsFile], caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.rmdir()
    file = new_file()
    file.add(_detail(NS_PER_S))
    file.add(_detail(NS_PER_S))
    file.close()
    assert len(caplog.records) == 1
