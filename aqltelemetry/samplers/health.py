"""Observes the telemetry itself: what it recorded, dropped, and what that cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.recording.stats import Stats

RECORDED = "telemetry recorded"
DROPPED = "telemetry dropped"
WRITE_SECONDS = "telemetry write seconds"
JOURNAL_BYTES = "telemetry journal bytes"
CRASH_PROOF = "telemetry crash proof"
RECOVERED = "telemetry recovered"
SAMPLER_ERRORS = "telemetry sampler errors"
SINK_ERRORS = "telemetry sink errors"
MISSED_TICKS = "telemetry missed ticks"
RETENTION_ERRORS = "telemetry retention errors"


class HealthSampler:
    """Samples a monitor's own statistics; all of them are totals since its start.

    `telemetry crash proof` is 1, or 0 where the journal is in memory only. The
    series of drops, errors and what was recovered appear with the first one.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats

    async def sample(self) -> Sequence[Measurement]:
        """Return the totals now."""
        stats = self._stats()
        counts = {f"{DROPPED} {reason}": count for reason, count in stats.dropped.items()}
        counts[RECOVERED] = stats.recovered
        counts[SAMPLER_ERRORS] = stats.sampler_errors
        counts[SINK_ERRORS] = stats.sink_errors
        counts[MISSED_TICKS] = stats.missed_ticks
        counts[RETENTION_ERRORS] = stats.retention_errors
        return (
            Measurement(RECORDED, stats.recorded),
            Measurement(WRITE_SECONDS, stats.write_s),
            Measurement(JOURNAL_BYTES, stats.journal_bytes),
            Measurement(CRASH_PROOF, stats.is_crash_proof),
            *(Measurement(label, count) for label, count in counts.items() if count),
        )
