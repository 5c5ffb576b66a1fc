"""Published files of rows that a test names, or random ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aqltelemetry import TelemetryDB
from aqltelemetry.observation import quote_field
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS

_S = 1_000_000_000
_LABELS = (
    *("/a [GET]", "/a [GET] ttfb", "/a [GET] 4xx", "/a [GET] 5xx", "/a [GET] disconnect"),
    *("job", "job failed", "other failed", "x 4xx", "my ttfb", "failed", "", 'é, "q"'),
)
PROCESSES = ((7, "a" * 16), (7, "b" * 16), (8, "c" * 16), (9, ""))


class Row(NamedTuple):
    at_ns: int
    value: float
    label: str
    process: tuple[int, str]


def publish(directory: Path, rows: Sequence[Row], prefix: str = "duration") -> TelemetryDB:
    """Write the rows of each process into a file of its own."""
    in_order = sorted(rows, key=lambda row: row.process)
    for (pid, writer), group in itertools.groupby(in_order, key=lambda row: row.process):
        own = list(group)
        times = [row.at_ns for row in own]
        name = f"{prefix}.csv"
        if writer:
            name = str(FileName(prefix, *enclosing(min(times), max(times)), pid, writer, 1, 1, 0))
        fields = (f"{at_ns},{value!r},{quote_field(label)}" for at_ns, value, label, _ in own)
        text = "".join(f"{each},{pid}\n" for each in fields)
        (directory / name).write_text("Timepoint,Measurement,Label,PID\n" + text)
    return TelemetryDB(directory)


def recorded(seed: int, number: int = 400) -> list[Row]:
    """Return random durations, some of which are equal, NaN or infinite."""
    chance = random.Random(seed)
    values = [0.0, 0.001, 1e-9, 2.5, float("nan"), float("inf")]
    return [
        Row(
            EPOCH_NS + chance.randrange(20 * _S),
            chance.choice(values) if chance.random() < 0.1 else round(chance.expovariate(1), 9),
            chance.choice(_LABELS),
            chance.choice(PROCESSES),
        )
        for _ in range(number)
    ]
