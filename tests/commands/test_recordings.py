"""A bar appears only on a terminal, and only if a load takes long."""

from __future__ import annotations

import io

import pytest

from aqltelemetry.commands.recordings import LoadProgress
from fakes import FakeClock


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _printed(stream: io.StringIO, step_ns: int) -> str:
    with LoadProgress(stream, FakeClock(step_ns=step_ns)) as progress:
        progress.files(1, 4)
        progress.files(2, 4)
        progress.stage("computing")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _no_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)


def test_a_long_load_shows_a_bar_that_disappears() -> None:
    printed = _printed(_Terminal(), 600_000_000)
    assert "reading files" in printed
    assert printed.endswith("\x1b[2K")  # the line is erased


def test_a_short_load_shows_nothing() -> None:
    assert _printed(_Terminal(), 1_000) == ""


def test_nothing_is_shown_in_a_pipe() -> None:
    assert _printed(io.StringIO(), 600_000_000) == ""


def test_the_bar_disappears_after_an_error() -> None:
    stream = _Terminal()
    with (
        pytest.raises(OSError, match="disk"),
        LoadProgress(stream, FakeClock(step_ns=10**9)) as progress,
    ):
        progress.files(1, 4)
        raise OSError("disk")
    assert stream.getvalue().endswith("\x1b[2K")
