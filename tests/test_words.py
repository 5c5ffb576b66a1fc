"""The check for words that make a sentence hard to read."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parent.parent / ".ci" / "words.py"
_SPEC = importlib.util.spec_from_file_location("words", _SCRIPT)
assert _SPEC is not None
assert _SPEC.loader is not None
words = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Tell how many there are.", "Tell"),
        ("def test_a_file_tells_its_name() -> None:", "tells"),
        ("it was stopped amid a write", "amid"),
        ("a thread of ours", "of ours"),
        ("what became\n    # of it", "what became # of"),
        ("Of what is torn, each has its own", "Of what"),
        ("have the segment written", "have the segment written"),
    ],
)
def test_a_riddle_is_found(text: str, found: str) -> None:
    assert [each.found for each in words.findings(text)] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "position = file.tell()",
        "It is intelligible, and foretells nothing.",
        "One of those records is missing.",
        "The journal has it.",
        "ROUTES_BESIDES = 1",
    ],
)
def test_ordinary_words_and_true_uses_are_not_found(text: str) -> None:
    assert words.findings(text) == []


def test_a_finding_has_its_line_and_what_to_write_instead() -> None:
    (finding,) = words.findings("one\ntwo\nthree of ours\n")
    assert finding.line == 3
    assert finding.instead


def test_the_project_has_no_riddle_where_it_is_clean() -> None:
    done = subprocess.run(
        [sys.executable, _SCRIPT], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
