from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.runtime.control_files import ControlFiles, ControlRequests, ProfileResult

_WRITER = "0123456789abcdef"


@pytest.fixture
def controls(tmp_path: Path) -> ControlFiles:
    return ControlFiles(str(tmp_path))


def test_without_control_files_there_are_no_requests(
    controls: ControlFiles, tmp_path: Path
) -> None:
    assert controls.requests(_WRITER) == ControlRequests(off=False, profile_s=None)
    assert list(tmp_path.iterdir()) == []


def test_a_switch_is_kept_and_returns_whether_it_was_a_change(
    controls: ControlFiles,
) -> None:
    assert not controls.switch(on=True)
    assert controls.switch(on=False)
    assert not controls.switch(on=False)
    assert controls.requests(_WRITER).off
    assert controls.is_off()
    assert controls.switch(on=True)
    assert not controls.requests(_WRITER).off


def test_a_missing_directory_cannot_be_switched_off(tmp_path: Path) -> None:
    controls = ControlFiles(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        controls.switch(on=False)
    assert not controls.switch(on=True)


def test_a_profile_is_requested_of_one_writer_and_has_one_result(controls: ControlFiles) -> None:
    controls.request_profile(_WRITER, 2.5)
    assert controls.requests(_WRITER).profile_s == 2.5
    assert controls.requests("f" * 16).profile_s is None
    with pytest.raises(FileExistsError):
        controls.request_profile(_WRITER, 1)
    assert controls.profile_result(_WRITER) is None
    controls.store_profile_result(_WRITER, ProfileResult(path="/somewhere"))
    assert controls.profile_result(_WRITER) == ProfileResult("/somewhere", "")
    assert controls.requests(_WRITER).profile_s is None


@pytest.mark.parametrize("form", ["pstats", "speedscope"])
def test_two_requests_with_tokens_have_a_result_each(
    controls: ControlFiles, tmp_path: Path, form: str
) -> None:
    controls.request_profile(_WRITER, 2.5, form, "a1")
    assert controls.requests(_WRITER) == ControlRequests(False, 2.5, form, "a1")
    controls.store_profile_result(_WRITER, ProfileResult(path="/first"), "a1")
    # The second one asks before the first one has read its answer.
    controls.request_profile(_WRITER, 1, form, "b2")
    assert controls.profile_result(_WRITER, "a1") == ProfileResult(path="/first")
    controls.cancel_profile(_WRITER, "a1")
    assert controls.requests(_WRITER).token == "b2"
    controls.store_profile_result(_WRITER, ProfileResult(path="/late"), "a1")
    assert controls.profile_result(_WRITER, "a1") is None
    controls.store_profile_result(_WRITER, ProfileResult(path="/second"), "b2")
    assert controls.profile_result(_WRITER, "b2") == ProfileResult(path="/second")
    controls.cancel_profile(_WRITER, "b2")
    assert list((tmp_path / ".control").iterdir()) == []


def test_a_cancelled_request_leaves_no_file(controls: ControlFiles, tmp_path: Path) -> None:
    controls.request_profile(_WRITER, 2.5)
    controls.cancel_profile(_WRITER)
    assert controls.requests(_WRITER).profile_s is None
    controls.store_profile_result(_WRITER, ProfileResult(error="too late"))
    assert controls.profile_result(_WRITER) is None
    assert list((tmp_path / ".control").iterdir()) == []


def test_a_request_that_is_partly_written_is_ignored(
    controls: ControlFiles, tmp_path: Path
) -> None:
    controls.switch(on=False)
    (tmp_path / ".control" / f"profile.{_WRITER}.asked").touch()
    assert controls.requests(_WRITER) == ControlRequests(off=True, profile_s=None)


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "3601", "1 svg"])
def test_a_profile_has_a_longest_time(controls: ControlFiles, tmp_path: Path, text: str) -> None:
    controls.request_profile(_WRITER, 1)
    (tmp_path / ".control" / f"profile.{_WRITER}.asked").write_text(text)
    assert controls.requests(_WRITER).profile_s is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_request_by_root_is_readable_by_the_owner_of_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    ControlFiles(str(tmp_path)).switch(on=False)
    for path in (tmp_path / ".control", tmp_path / ".control" / "off"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_a_symbolic_link_is_not_followed(controls: ControlFiles, tmp_path: Path) -> None:
    (tmp_path / ".control").mkdir()
    (tmp_path / ".control" / "off").symlink_to(tmp_path / "victim")
    controls.switch(on=False)
    assert not (tmp_path / "victim").exists()
