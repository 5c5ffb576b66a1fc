"""Causes are distinct by their letters and by their colours."""

from __future__ import annotations

from itertools import combinations

from aqltelemetry.stalls.causes import CAUSES
from aqltelemetry.views.stalls.styles import _OTHER, styles

_VISIBLE = 0.09


def test_each_cause_has_its_own_letter() -> None:
    found = styles()
    assert {*found} >= {*CAUSES}
    assert len({style.letter for style in found.values()}) == len(found)


def test_labels_that_are_no_causes_get_letters_while_there_are_any() -> None:
    others = [f"cause {number}" for number in range(60)]
    found = styles(iter(others))
    letters = [found[each].letter for each in others]
    assert letters[0] == "A"
    assert letters.count("?") > 0
    own = [each for each in letters if each != "?"]
    assert len({*own}) == len(own)
    assert not {*own} & {style.letter for style in styles().values()}


def _lightness(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [
        each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _as_deuteranope(colour: str) -> tuple[float, ...]:
    """Return a colour as somebody without green cones sees it (Machado and others, 2009)."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return (
        0.367322 * red + 0.860646 * green - 0.227968 * blue,
        0.280085 * red + 0.672501 * green + 0.047413 * blue,
        -0.011820 * red + 0.042940 * green + 0.968881 * blue,
    )


def test_colours_are_distinct_without_green_cones() -> None:
    for number in (1, 2):
        chosen = {cause: style for cause, style in styles().items() if style.light != _OTHER[0]}
        colours = {cause: style[number] for cause, style in chosen.items()}
        for one, other in combinations(colours, 2):
            first, second = (_as_deuteranope(colours[each]) for each in (one, other))
            distance = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5
            assert distance > _VISIBLE, (one, other)


def test_colours_are_visible_on_the_ground_of_their_theme() -> None:
    for style in styles().values():
        for colour, ground in ((style.light, "#ffffff"), (style.dark, "#171d24")):
            bright, dim = sorted((_lightness(colour), _lightness(ground)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) > 1.6, style
