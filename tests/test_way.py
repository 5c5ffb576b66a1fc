"""The way of an observation through the package, as `make way` shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = Path(__file__).parent / "way.py"


def test_the_way_of_an_observation_leads_from_the_block_to_pandas() -> None:
    done = subprocess.run([sys.executable, _PROGRAM], check=True, capture_output=True, text=True)
    rooms = [line.split(".")[0] for line in done.stdout.splitlines()]
    first = {room: rooms.index(room) for room in reversed(rooms)}
    assert first["recording"] < first["sinks"] < first["reading"]
