"""Stand-ins for a clock, a sink, a sampler and a source."""

from __future__ import annotations

from collections.abc import Sequence

from aqltelemetry.journal.format import Header
from aqltelemetry.journal.labels import LabelLimit
from aqltelemetry.journal.segment import Segment, random_id_base
from aqltelemetry.journal.writer import Writer, WriterOptions
from aqltelemetry.observation import Batch, Measurement, SegmentId
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.system.clock import Anchor

EPOCH_NS = 1_700_000_000_000_000_000


class FakeClock:
    """A clock that tests set; each reading is `step_ns` after the last."""

    def __init__(self, now_ns: int = 1_000, step_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.step_ns = step_ns

    def __call__(self) -> int:
        now_ns = self.now_ns
        self.now_ns += self.step_ns
        return now_ns


class MemorySink:
    """Keeps batches in a list, as a user-defined sink would; `fail` has calls raise."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []
        self.closed = False

    async def write(self, batch: Batch) -> Sequence[SegmentId]:
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        return (batch.segment,)

    async def flush(self) -> Sequence[SegmentId]:
        return ()

    async def close(self) -> None:
        self.closed = True

    def rows(self) -> list[tuple[str, str, float]]:
        """Return prefix, label and value of every observation."""
        return [
            (column.series.prefix, column.series.label, value)
            for batch in self.batches
            for column in batch.columns
            for value in column.values
        ]


class FakeSampler:
    """Returns a running number, or raises what `failures` holds."""

    def __init__(self, interval_s: float | None = None, prefix: str = "fake") -> None:
        self.interval_s = interval_s
        self.prefix = prefix
        self.samples = 0
        self.failures: list[Exception] = []

    async def sample(self) -> Sequence[Measurement]:
        if self.failures:
            raise self.failures.pop(0)
        self.samples += 1
        return (Measurement("number", self.samples),)


class ManualSource:
    """Hands out the segments that a test gives it, and counts how often it is asked for what."""

    def __init__(self, *segments: Segment) -> None:
        self.segments = list(segments)
        self.woken = 0
        self.tables_wanted = 0
        self.breaths = 0

    def notify(self) -> None:
        self.woken += 1

    def request_label_table(self) -> None:
        self.tables_wanted += 1

    def throttle(self, segment: Segment) -> None:
        self.breaths += 1

    def next_segment(self, full: Segment) -> Segment | None:
        if self.segments:
            full.successor = self.segments.pop(0)
        return full.successor


def writer_options(directory: str = "/somewhere", max_file_bytes: int = 16 << 20) -> WriterOptions:
    """Return what the segments of a test say."""
    return WriterOptions(directory, max_file_bytes, lambda: EPOCH_NS, LabelLimit())


def memory_segments(count: int) -> list[Segment]:
    """Make segments in memory."""
    writer = Writer.in_memory(writer_options())
    return [writer.new_segment() for _ in range(count)]


def recording(*segments: Segment) -> tuple[Recording, ManualSource]:
    """Begin a recording into the given segments."""
    source = ManualSource(*segments[1:])
    return Recording(
        segments[0],
        Anchor(0, EPOCH_NS),
        pool=source,
        make_segment=source.next_segment,
    ), source


def header(**changes: object) -> Header:
    """Return a segment's header."""
    known = {
        "writer": "0123456789abcdef",
        "sequence": 7,
        "pid": 4711,
        "id_base": random_id_base(),
        "max_file_bytes": 16 << 20,
        "created_ns": EPOCH_NS,
        "directory": "/some/where",
    }
    return Header(**(known | changes))  # type: ignore[arg-type]
