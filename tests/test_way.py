"""The way of an observation through the package, as `make way` shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PROGRAM = Path(__file__).parent / "way.py"


_DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def test_the_way_of_an_observation_leads_from_the_block_to_pandas() -> None:
    *functions, count = _way()
    assert count.endswith(" modules")
    rooms = [line.split(".")[0] for line in functions]
    first = {room: rooms.index(room) for room in reversed(rooms)}
    assert first["recording"] < first["sinks"] < first["reading"]


def test_the_design_has_the_functions_that_an_observation_passes() -> None:
    *functions, count = _way()
    section = (
        _DESIGN.read_text().partition("## The way of an observation\n")[2].partition("\n## ")[0]
    )
    shown = [
        f"{module}: {function}"
        for row in re.findall(r"^\|.*\|(.*)\|$", section, re.MULTILINE)
        for module, names in re.findall(r"`([a-z_.]+)`: ((?:`[^`]+`(?:, )?)+)", row)
        for function in re.findall(r"`([^`]+)`", names)
    ]
    assert sorted(shown) == sorted(functions)
    assert f"`make way` counts {count}." in section


def _way() -> list[str]:
    done = subprocess.run([sys.executable, _PROGRAM], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()
