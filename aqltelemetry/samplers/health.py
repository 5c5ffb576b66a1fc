"""Measures the recording itself: what it recorded and dropped, and what that cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.recording import cpu_time
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
CPU_UNKNOWN = "telemetry cpu unknown"


class HealthSampler:
    """Samples the statistics of a monitor, which are totals since its start.

    `telemetry crash proof` is 1, or 0 if the journal is in memory only. Drops, errors and
    recovered observations are sampled from the first one on.
    """

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats
        self._unknown_before = cpu_time.unknown_count()

    async def sample(self) -> Sequence[Measurement]:
        """Return the present totals."""
        stats = self._stats()
        counts = {f"{DROPPED} {reason}": count for reason, count in stats.dropped.items()}
        counts[RECOVERED] = stats.recovered
        counts[SAMPLER_ERRORS] = stats.sampler_errors
        counts[SINK_ERRORS] = stats.sink_errors
        counts[MISSED_TICKS] = stats.missed_ticks
        counts[RETENTION_ERRORS] = stats.retention_errors
        counts[CPU_UNKNOWN] = cpu_time.unknown_count() - self._unknown_before
        return (
            Measurement(RECORDED, stats.recorded),
            Measurement(WRITE_SECONDS, stats.write_s),
            Measurement(JOURNAL_BYTES, stats.journal_bytes),
            Measurement(CRASH_PROOF, stats.is_crash_proof),
            *(Measurement(label, count) for label, count in counts.items() if count),
        )
