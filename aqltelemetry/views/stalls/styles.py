"""The letter and the colours of each cause of stalls, the same in all views.

The colours differ in lightness, too, after Okabe and Ito's palette for the colour-blind, and each
cause has its letter or its name next to it. Related causes have related colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from string import ascii_letters
from typing import NamedTuple

from aqltelemetry.stalls import causes


class Style(NamedTuple):
    """How a cause is shown: one letter, and a colour on a light and on a dark ground."""

    letter: str
    light: str
    dark: str


_CHOSEN: Mapping[str, Style] = {
    causes.PYTHON: Style("P", "#0072b2", "#4fa8de"),
    causes.MANY_STEPS: Style("M", "#56b4e9", "#b5e2fb"),
    causes.NATIVE: Style("N", "#18b886", "#1fa57c"),
    causes.LOCK_HELD: Style("H", "#d55e00", "#f2874a"),
    causes.BLOCKS_WITH_LOCK: Style("B", "#7a2e00", "#ffcfa8"),
    causes.LOCK_ELSEWHERE: Style("T", "#c9a000", "#f0d43b"),
    causes.GARBAGE: Style("G", "#cc79a7", "#e4a0c6"),
    causes.WAIT: Style("W", "#7a5bb5", "#8f6fd6"),
    causes.IO: Style("I", "#3b2a70", "#c4aeff"),
    causes.STARVED: Style("C", "#22272d", "#f2f5f8"),
    causes.THROTTLED: Style("L", "#2d2dff", "#3d4dff"),
    causes.PAGE_FAULTS: Style("F", "#57626f", "#8793a0"),
    causes.SUSPENDED: Style("S", "#b4b484", "#8c6c3c"),
    causes.UNKNOWN: Style("U", "#bfc7cf", "#4a545f"),
}
_OTHER = "#8b96a3", "#8b96a3"


def css() -> str:
    """Return the colours as variables of a style sheet: `--cause-P`, in both themes."""
    light, dark = (
        "".join(f"--cause-{style.letter}:{style[number]};" for style in styles().values())
        for number in (1, 2)
    )
    return f':root{{{light}}}:root[data-theme="dark"]{{{dark}}}'


def styles(others: Iterator[str] | None = None) -> Mapping[str, Style]:
    """Return the style of each cause, and of `others` too: labels that a recording has.

    A cause without a chosen one is grey, with a letter of its own as long as there are any.
    """
    found = dict(_CHOSEN)
    taken = {style.letter for style in found.values()}
    for cause in chain(causes.CAUSES, others or ()):
        if cause not in found:
            own = (letter for letter in f"{cause.upper()}{ascii_letters}" if letter.isalpha())
            letter = next((each for each in own if each not in taken), "?")
            taken.add(letter)
            found[cause] = Style(letter, *_OTHER)
    return found
