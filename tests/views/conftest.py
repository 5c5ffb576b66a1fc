from __future__ import annotations

from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from fakes import EPOCH_NS

_S = 1_000_000_000


@pytest.fixture
def db(tmp_path: Path) -> TelemetryDB:
    def write(name: str, rows: list[tuple[int, float, str, int]]) -> None:
        lines = [f"{EPOCH_NS + at},{value!r},{label},{pid}\n" for at, value, label, pid in rows]
        (tmp_path / name).write_text("Timepoint,Measurement,Label,PID\n" + "".join(lines))

    many = [(n * _S // 10, (n + 1) / 1000, "/v [GET]", 7 + n % 2) for n in range(101)]
    write("duration.1.csv", [*many, (5, 0.5, "rare", 7)])
    write(
        "runtime.1.csv",
        [
            *((1, 10, "gc collections", 7), (2, 13, "gc collections", 7)),
            (1, 4, "gc collections", 8),
            *((1, 0.002, "gc pause", 7), (2, 0.004, "gc pause", 7)),
            *((1, 0.002, "gc pause gen0", 7), (2, 0.004, "gc pause gen2", 7)),
            *((1, 1.0, "user time", 7), (2, 1.5, "user time", 7), (2, 0.25, "system time", 7)),
            *((1, 3 << 20, "rss", 7), (2, 2 << 20, "rss", 7)),
            *((1, 0.001, "event loop lag", 7), (2, 0.003, "event loop lag", 7)),
            *((1, 2.0, "telemetry dropped no segment", 7),),
            *((2, 5.0, "telemetry dropped no segment", 7), (2, 1.0, "telemetry dropped torn", 8)),
        ],
    )
    return TelemetryDB(tmp_path)
