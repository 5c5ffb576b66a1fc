"""What tests of the HTML report share: a label with markup, rows, the data in a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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


def write_recording(directory: Path) -> None:
    """Publish three minutes of two workers and two routes; from 46 to 62 s one route fails."""
    chance = np.random.default_rng(4)
    rows: list[tuple[float, float, str, int]] = []
    for label, per_s, median_s in (("/orders [POST]", 80, 0.002), ("/orders/{id} [GET]", 60, 0.01)):
        at_s = np.sort(chance.uniform(0, 180, 180 * per_s)).round(6).tolist()
        lengths_s = (median_s * chance.lognormal(0, 0.5, len(at_s))).round(9).tolist()
        pids = chance.choice([4000, 4001], len(at_s)).tolist()
        requests = list(zip(at_s, lengths_s, [label] * len(at_s), pids, strict=True))
        rows += requests
        if label == "/orders [POST]":
            failed = [request for request in requests if 46 <= request[0] < 62][::2]
            rows += [(at, length, f"{label} 5xx", pid) for at, length, _, pid in failed]
    write_rows(directory, rows, "duration")
    samples = [
        (float(second), value, label, pid)
        for second in range(181)
        for pid in (4000, 4001)
        for label, value in (
            ("cpu percent", 40.0 + second % 7),
            ("rss", float((100 << 20) + second * 1000)),
            ("event loop lag", 0.001),
            ("requests in flight", float(second % 3)),
        )
    ]
    write_rows(directory, samples, "runtime")
