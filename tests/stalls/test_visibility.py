"""What the watchdog can't see is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aqltelemetry.stalls import visibility
from aqltelemetry.stalls.visibility import limits
from twinned import compiled_twin


def test_nothing_is_missing_with_the_native_watchdog_and_all_files() -> None:
    compiled_twin("stalls._watchdog")
    assert limits() == []


def test_each_missing_file_is_named_with_what_is_not_seen(tmp_path: Path) -> None:
    thread = tmp_path / str(os.getpid())
    thread.mkdir()
    (thread / "stat").touch()
    found = [text for text in limits(str(tmp_path)) if str(thread) in text]
    assert [text.partition(", ")[0] for text in found] == [
        f"without {thread}/syscall",
        f"without {thread}/schedstat",
    ]


def test_greenlets_and_a_missing_extension_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "are_greenlets", lambda: True)
    monkeypatch.setattr(visibility, "load", lambda _: None)
    monkeypatch.setattr(visibility, "call_names", dict)
    words = ("gevent", "compiled", "system calls")
    assert [word in text for word, text in zip(words, limits(), strict=True)] == [True] * 3
