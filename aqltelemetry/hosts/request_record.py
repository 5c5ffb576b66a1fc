"""What a host records of an HTTP exchange, and of those that are going on.

What the compiled twins of these are, is in `_exchange.pyx`.
"""

from __future__ import annotations

from collections.abc import Sequence

from aqltelemetry.hosts.labels import Labels
from aqltelemetry.journal.segment import Counter
from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.recording.recorder import append_duration
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.extensions import choose

IN_FLIGHT = "requests in flight"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class Gauge:
    """What was begun and has not ended; both may be told on any thread."""

    def __init__(self) -> None:
        self._begun = Counter()
        self._ended = Counter()
        self.begin, self.end = self._begun.step, self._ended.step

    @property
    def value(self) -> int:
        """How many there are."""
        ended = self._ended.value
        return self._begun.value - ended


class InFlight:
    """Counts the requests that are being answered, and samples that number."""

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self.gauge: Gauge = choose(__name__).Gauge()
        # From any thread: count a request; count its end.
        self.begin, self.end = self.gauge.begin, self.gauge.end

    async def sample(self) -> Sequence[Measurement]:
        """Return the number of requests in flight."""
        return (Measurement(IN_FLIGHT, self.gauge.value),)


class RequestRecord:
    """One request and its response; begins when it is made.

    `status` is 0 until the response begins; `kind` as `WEBSOCKET` or `EVENTS`.
    """

    # On the class, since a request seldom has others.
    kind = ""
    status = 0
    disconnected = False
    ended = False
    first_ns = 0
    """When the response began, by the monotonic clock; 0 until it does."""

    def __init__(self, kind: str = "") -> None:
        if kind:
            self.kind = kind
        self.started_ns = monotonic_ns()

    def first_byte(self) -> None:
        """Note that the response's body begins now, if it has not before."""
        if not self.first_ns:
            self.first_ns = monotonic_ns()

    def end(self, labels: Labels, with_ttfb: bool) -> None:
        """Record the exchange, once, however often this is called."""
        if self.ended:
            return
        self.ended = True
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
