"""What tests of the HTML report share: a label with markup, rows, the data in a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes import EPOCH_NS

EVIL = "</script><img src=x onerror=alert(1)>"
"""A text that runs a script if it is not escaped."""


def data_of(text: str, name: str) -> Any:
    """Return the data in a page."""
    found = re.search(rf'<script type="application/json" id="data-{name}">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


def write_rows(directory: Path, rows: Sequence[tuple[float, float, str, int]], prefix: str) -> None:
    """Publish rows of seconds after `EPOCH_NS`, value, label and PID."""
    lines = [
        f"{EPOCH_NS + round(at * 1e9)},{value},{label},{pid}\n" for at, value, label, pid in rows
    ]
    text = "Timepoint,Measurement,Label,PID\n" + "".join(lines)
    (directory / f"{prefix}.1.csv").write_text(text)
