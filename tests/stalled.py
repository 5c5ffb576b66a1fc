"""Details of stalls for tests, and the files that contain them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aqltelemetry.sinks import stall_details
from fakes import EPOCH_NS
from published import PROCESSES

_S = 1_000_000_000
PID, WRITER = PROCESSES[0]


def detail(length_s: float, cause: str, **changes: Any) -> str:
    """Return the details of a stall in `view` of app.py, as a line of their file."""
    found = {
        "version": 1,
        "begin_ns": EPOCH_NS,
        "end_ns": EPOCH_NS + round(length_s * _S),
        "length_s": length_s,
        "pid": PID,
        "writer": WRITER,
        "cause": cause,
        "user": {"file": "/srv/app.py", "line": 7, "function": "view", "votes": 1.0},
        "is_exact": True,
        "shares": {cause: 1.0},
        "task": "slow",
        "waits_for": "sleep",
        "cpu_s": 0.001,
        "run_delay_s": None,
        "new key": 1,
    }
    return json.dumps(found | changes)


def write_details(directory: Path, *lines: str, number: int = 1, writer: str = WRITER) -> None:
    """Publish a file with these lines."""
    path = directory / stall_details.temporary(writer, number)
    path.write_text("".join(f"{line}\n" for line in lines))
    stall_details.recover(str(directory))
