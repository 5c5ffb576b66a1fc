"""Draws the strip of stalls on a terminal: a letter and a colour for each cause, over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from aqltelemetry.quantities import milliseconds
from aqltelemetry.views.columns import local_time, printable
from aqltelemetry.views.stalls.styles import Style, styles

_MIN_WIDTH = 20
_LITTLE = 0.05
_MINUTE_S = 60.0


def strip(blocked: Mapping[str, Any], width: int | None, free: str = "·") -> Iterator[Text]:
    """Yield the lines of a strip.

    Args:
        blocked: The field `blocked` of the report's document.
        width: The width of the terminal, for a strip with colours; None for plain text.
        free: The character for time in which nothing was blocked.
    """
    by_cause: Mapping[str, list[float]] = blocked["causes"]
    looks = styles(iter(by_cause))
    bins = len(next(iter(by_cause.values())))
    merged = 1 if width is None else max(-(-bins // max(width, _MIN_WIDTH)), 1)
    line = Text()
    for at in range(0, bins, merged):
        taken = {cause: sum(seconds[at : at + merged]) for cause, seconds in by_cause.items()}
        cause = max(taken, key=lambda each: taken[each])
        share = sum(taken.values()) / (blocked["bin_s"] * merged)
        line.append_text(_cell(looks[cause], share) if share else Text(free, style="dim"))
    yield line
    yield Text(_axis(blocked, len(line), blocked["bin_s"] * merged), style="dim")
    for cause, seconds in by_cause.items():
        name = Text("  ").append_text(letter(looks[cause]))
        yield name.append(f" {printable(cause)}: {milliseconds(sum(seconds), 1)} ms")


def _cell(look: Style, share: float) -> Text:
    """Return one character: the cause with the most time; in lower case for little of it."""
    return letter(look, look.letter.lower() if share < _LITTLE else look.letter)


def letter(look: Style, shown: str = "") -> Text:
    """Return a letter in the colours of a cause: its own one, or another one."""
    return Text(shown or look.letter, style=f"bold {_ink(look.light)} on {look.light}")


def _ink(colour: str) -> str:
    """Return the colour of a letter that can be read on another colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140  # noqa: PLR2004 - of 255
    return "#000000" if is_light else "#ffffff"


def _axis(blocked: Mapping[str, Any], width: int, bin_s: float) -> str:
    begin, end = local_time(blocked["begin"])[11:], local_time(blocked["end"])[11:]
    each = f"{bin_s:g} s" if bin_s < _MINUTE_S else f"{bin_s / _MINUTE_S:g} min"
    text = f"{begin}, each character {each}, a small letter less than 5 % of it"
    return text + end.rjust(max(width - len(text), len(end) + 2))
