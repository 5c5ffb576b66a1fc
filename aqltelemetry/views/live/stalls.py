"""The latest stalls of event loops, with the lines that blocked them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.reading.stalls.details import Details, StallKey
from aqltelemetry.views.live.batch import Batch, Worker

KEPT = 100
"""How many stalls are kept."""
KnownDetails: TypeAlias = Mapping[StallKey, Sequence[Details]]
"""The details of stalls by what they have in common with their rows."""


class _Stall(NamedTuple):
    at_ns: int
    length_s: float
    cause: str
    worker: Worker


class LatestStalls:
    """Keeps the latest stalls; they may arrive in any order."""

    def __init__(self) -> None:
        self._kept: list[_Stall] = []

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, batch: Batch) -> None:
        """Add stalls: a length in seconds under the name of its cause."""
        columns = batch.times_ns, batch.values, batch.label_codes, batch.worker_codes
        new = [
            _Stall(at_ns, length_s, batch.labels[label], batch.workers[worker])
            for at_ns, length_s, label, worker in zip(
                *(each.tolist() for each in columns), strict=True
            )
        ]
        self._kept = nlargest(KEPT, [*self._kept, *new])

    def rows(self, begin_ns: int | None, end_ns: int, known: KnownDetails) -> list[dict[str, Any]]:
        """Return the stalls that were recorded between two times, the latest first."""
        return [
            _row(stall, known)
            for stall in self._kept
            if stall.at_ns <= end_ns and (begin_ns is None or stall.at_ns >= begin_ns)
        ]


def _row(stall: _Stall, known: KnownDetails) -> dict[str, Any]:
    pid, writer = stall.worker
    same = known.get(StallKey.of(pid, writer, stall.cause, stall.length_s), ())
    details = same[-1] if same else Details(0, stall.at_ns)
    return {
        "end_ns": details.end_ns,
        "length_s": stall.length_s,
        "cause": stall.cause,
        "line": f"{details.file}:{details.line}" if details.file else "",
        "function": details.function,
        "route": details.route,
        "blocks": [*details.blocks],
        "pid": pid,
        "writer": writer,
    }
