from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.runtime.control_files import Answer, Controls, Wishes

_WRITER = "0123456789abcdef"


@pytest.fixture
def controls(tmp_path: Path) -> Controls:
    return Controls(str(tmp_path))


def test_nothing_is_asked_where_nobody_asked(controls: Controls, tmp_path: Path) -> None:
    assert controls.wishes(_WRITER) == Wishes(off=False, profile_s=None)
    assert list(tmp_path.iterdir()) == []


def test_a_switch_stays_as_it_was_put_and_says_whether_that_was_news(controls: Controls) -> None:
    assert not controls.switch(on=True)
    assert controls.switch(on=False)
    assert not controls.switch(on=False)
    assert controls.wishes(_WRITER).off
    assert controls.is_off()
    assert controls.switch(on=True)
    assert not controls.wishes(_WRITER).off


def test_a_directory_that_is_not_there_cannot_be_switched_off(tmp_path: Path) -> None:
    controls = Controls(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        controls.switch(on=False)
    assert not controls.switch(on=True)


def test_a_profile_is_asked_of_one_writer_and_answered_once(controls: Controls) -> None:
    controls.ask_for_profile(_WRITER, 2.5)
    assert controls.wishes(_WRITER).profile_s == 2.5
    assert controls.wishes("f" * 16).profile_s is None
    with pytest.raises(FileExistsError):
        controls.ask_for_profile(_WRITER, 1)
    assert controls.answered(_WRITER) is None
    controls.answer(_WRITER, Answer(path="/somewhere"))
    assert controls.answered(_WRITER) == Answer("/somewhere", "")
    assert controls.wishes(_WRITER).profile_s is None


@pytest.mark.parametrize("form", ["pstats", "speedscope"])
def test_two_who_ask_get_an_answer_each(controls: Controls, tmp_path: Path, form: str) -> None:
    controls.ask_for_profile(_WRITER, 2.5, form, "a1")
    assert controls.wishes(_WRITER) == Wishes(False, 2.5, form, "a1")
    controls.answer(_WRITER, Answer(path="/first"), "a1")
    # The second one asks before the first one has read its answer.
    controls.ask_for_profile(_WRITER, 1, form, "b2")
    assert controls.answered(_WRITER, "a1") == Answer(path="/first")
    controls.withdraw(_WRITER, "a1")
    assert controls.wishes(_WRITER).token == "b2"
    controls.answer(_WRITER, Answer(path="/late"), "a1")
    assert controls.answered(_WRITER, "a1") is None
    controls.answer(_WRITER, Answer(path="/second"), "b2")
    assert controls.answered(_WRITER, "b2") == Answer(path="/second")
    controls.withdraw(_WRITER, "b2")
    assert list((tmp_path / ".control").iterdir()) == []


def test_what_is_withdrawn_leaves_nothing(controls: Controls, tmp_path: Path) -> None:
    controls.ask_for_profile(_WRITER, 2.5)
    controls.withdraw(_WRITER)
    assert controls.wishes(_WRITER).profile_s is None
    controls.answer(_WRITER, Answer(error="too late"))
    assert controls.answered(_WRITER) is None
    assert list((tmp_path / ".control").iterdir()) == []


def test_a_question_that_is_not_yet_whole_is_none(controls: Controls, tmp_path: Path) -> None:
    controls.switch(on=False)
    (tmp_path / ".control" / f"profile.{_WRITER}.asked").touch()
    assert controls.wishes(_WRITER) == Wishes(off=True, profile_s=None)


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "3601", "1 svg"])
def test_nobody_is_profiled_without_end(controls: Controls, tmp_path: Path, text: str) -> None:
    controls.ask_for_profile(_WRITER, 1)
    (tmp_path / ".control" / f"profile.{_WRITER}.asked").write_text(text)
    assert controls.wishes(_WRITER).profile_s is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_asks_can_be_read_by_whom_it_asks(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    Controls(str(tmp_path)).switch(on=False)
    for path in (tmp_path / ".control", tmp_path / ".control" / "off"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_a_link_that_was_planted_is_not_followed(controls: Controls, tmp_path: Path) -> None:
    (tmp_path / ".control").mkdir()
    (tmp_path / ".control" / "off").symlink_to(tmp_path / "victim")
    controls.switch(on=False)
    assert not (tmp_path / "victim").exists()
