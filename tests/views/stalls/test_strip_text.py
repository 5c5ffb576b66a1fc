"""The strip has a letter for each part of the time."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from aqltelemetry.views.stalls.strip_text import strip


def _blocked(**causes: list[float]) -> dict[str, Any]:
    return {
        "begin": "2026-11-24T10:00:00.000000000Z",
        "end": "2026-11-24T10:00:08.000000000Z",
        "bin_s": 1.0,
        "causes": {name.replace("_", " "): seconds for name, seconds in causes.items()},
    }


def _lines(blocked: dict[str, Any], width: int | None = None) -> list[str]:
    return [line.plain for line in strip(blocked, width)]


def test_a_letter_stands_for_the_cause_with_the_most_time() -> None:
    blocked = _blocked(python_code=[0, 0.5, 0.2, 0.01], garbage_collection=[0, 0, 0.3, 0])
    line, axis, *names = _lines(blocked)
    assert line == "·PGp"
    assert "each character 1 s" in axis
    assert names == ["  P python code: 710.0 ms", "  G garbage collection: 300.0 ms"]


def test_a_narrow_terminal_has_fewer_characters_that_stand_for_more() -> None:
    blocked = _blocked(python_code=[*([0.0] * 30), 0.5, *([0.0] * 29)])
    line, axis, *_ = _lines(blocked, 30)
    assert line == "·" * 15 + "P" + "·" * 14
    assert "each character 2 s" in axis


def test_letters_have_colours_on_a_terminal() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system="truecolor", width=80)
    for line in strip(_blocked(blocking_wait=[0.5]), 80):
        console.print(line)
    assert "\x1b[1;38;2;255;255;255;48;2;122;91;181mW" in output.getvalue()
