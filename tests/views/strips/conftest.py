from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS

Row = tuple[float, float, str, int]
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Publish rows of seconds after `EPOCH_NS`, value, label and PID."""

    def publish(rows: Iterable[Row], prefix: str = "duration", writer: str = "a") -> None:
        rows = list(rows)
        pid = rows[0][-1] if rows else 7
        lines = [
            f"{EPOCH_NS + round(at * 1e9)},{value!r},{label},{pid}\n"
            for at, value, label, pid in rows
        ]
        span = enclosing(EPOCH_NS, EPOCH_NS)
        name = FileName(prefix, *span, pid, writer * 16, 1, 1, 0)
        text = "Timepoint,Measurement,Label,PID\n" + "".join(lines)
        (tmp_path / str(name)).write_text(text)

    return publish


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], TelemetryDB]:
    """Return what was published."""
    return lambda: TelemetryDB(tmp_path)
