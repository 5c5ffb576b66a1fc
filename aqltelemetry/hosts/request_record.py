"""What a host records of a request, and the number of requests in progress.

The compiled twin, `_request_record.pyx`, does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqltelemetry.hosts.labels import Labels
from aqltelemetry.journal.segment import AtomicCounter
from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.recording import in_flight
from aqltelemetry.recording.cpu_time import CpuSpan, StepMeter, append_cpu_time
from aqltelemetry.recording.recorder import append_duration
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.extensions import choose

IN_FLIGHT = "requests in flight"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class Gauge:
    """Counts requests in progress. Thread-safe."""

    def __init__(self) -> None:
        self._started = AtomicCounter()
        self._ended = AtomicCounter()
        self.begin, self.end = self._started.step, self._ended.step

    @property
    def value(self) -> int:
        """The number of requests in progress."""
        ended = self._ended.value
        return self._started.value - ended


class InFlight:
    """A sampler of the number of requests in progress."""

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self.gauge: Gauge = choose(__name__).Gauge()
        # Count a request and its end, on any thread.
        self.begin, self.end = self.gauge.begin, self.gauge.end

    async def sample(self) -> Sequence[Measurement]:
        """Return the number of requests in progress, by the journal's slots if there are any."""
        has_slots = in_flight.installed() is not None
        return (Measurement(IN_FLIGHT, in_flight.count() if has_slots else self.gauge.value),)


class RequestRecord:
    """One request and its response; the request starts when the record is created.

    `status` is 0 until the response begins. `kind` is "", `WEBSOCKET` or `EVENTS`.
    """

    # On the class, since few requests have other values.
    kind = ""
    status = 0
    disconnected = False
    ended = False
    first_ns = 0
    """When the response began, by the monotonic clock, in nanoseconds; 0 until then."""
    meter: StepMeter | CpuSpan | None = None
    """Measures the CPU time, where it is recorded."""

    def __init__(self, kind: str = "") -> None:
        if kind:
            self.kind = kind
        self.started_ns = monotonic_ns()

    def first_byte(self) -> None:
        """Note that the response begins now, unless it has begun before."""
        if not self.first_ns:
            self.first_ns = monotonic_ns()

    def end(self, labels: Labels, with_ttfb: bool) -> None:
        """Record the request, once, however often this is called."""
        if self.ended:
            return
        self.ended = True
        meter = self.meter
        cpu_ns = None if meter is None else meter.spent_ns()
        end_ns = monotonic_ns()
        duration_ns = end_ns - self.started_ns
        try:
            append_duration(labels.total, end_ns, duration_ns)
        finally:  # an exception may stop a worker here
            first_ns = self.first_ns
            if first_ns and with_ttfb:
                append_duration(labels.first_byte, first_ns, first_ns - self.started_ns)
            if self.disconnected:
                append_duration(labels.disconnect, end_ns, duration_ns)
            elif self.status >= _CLIENT_ERROR:
                failed = self.status >= _SERVER_ERROR
                label = labels.server_error if failed else labels.client_error
                append_duration(label, end_ns, duration_ns)
            if meter is not None:
                append_cpu_time(labels.total, end_ns, duration_ns, cpu_ns)
