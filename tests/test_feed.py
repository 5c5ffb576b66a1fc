from __future__ import annotations

import logging

import pytest

from aqltelemetry.feed import Feed
from aqltelemetry.observation import Batch, SegmentId
from fakes import MemorySink

_ONE, _TWO, _THREE = (SegmentId("0123456789abcdef", number) for number in (1, 2, 3))


class SlowSink(MemorySink):
    """Keeps what it took at a flush only."""

    async def write(self, batch: Batch) -> list[SegmentId]:
        await super().write(batch)
        return []

    async def flush(self) -> list[SegmentId]:
        if self.failures:
            raise self.failures.pop(0)
        return [batch.segment for batch in self.batches]


def _batch(segment: SegmentId) -> Batch:
    return Batch(segment, 4711, 1 << 20, ())


async def test_segments_are_given_in_order() -> None:
    feed = Feed(MemorySink())
    for segment in (_ONE, _TWO, _THREE):
        feed.add(segment)
    assert list(feed.todo) == [_ONE, _TWO, _THREE]
    assert await feed.write(_batch(_ONE), 0.0) == (_ONE,)
    assert list(feed.todo) == [_TWO, _THREE]


async def test_what_is_taken_and_not_kept_is_due_for_a_flush() -> None:
    feed = Feed(SlowSink())
    assert feed.flush_at_s(60.0) is None
    await feed.write(_batch(_ONE), 10.0)
    await feed.write(_batch(_TWO), 30.0)
    assert feed.flush_at_s(60.0) == 70.0
    assert await feed.flush() == [_ONE, _TWO]
    assert feed.flush_at_s(60.0) is None


async def test_after_a_failure_all_that_is_not_kept_is_given_again_in_order() -> None:
    feed = Feed(SlowSink())
    feed.add(_THREE)
    await feed.write(_batch(_ONE), 0.0)
    await feed.write(_batch(_TWO), 0.0)
    feed.fail(OSError("no space"), 0.0)
    assert feed.todo == (_ONE, _TWO, _THREE)
    assert feed.errors == 1
    assert feed.flush_at_s(60.0) is None


async def test_pauses_between_tries_grow_to_half_a_minute_and_end_with_success() -> None:
    feed = Feed(SlowSink())
    pauses = []
    for _ in range(7):
        feed.fail(OSError("no space"), 100.0)
        pauses.append(feed.retry_at_s - 100.0)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    await feed.write(_batch(_ONE), 0.0)
    await feed.flush()
    feed.fail(OSError("no space"), 100.0)
    assert feed.retry_at_s == 101.0


def test_a_failure_is_logged_once_for_each_type(caplog: pytest.LogCaptureFixture) -> None:
    feed = Feed(MemorySink())
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        for exc in (OSError("a"), OSError("b"), ValueError("c")):
            feed.fail(exc, 0.0)
    assert [each.message.split(": ")[-1] for each in caplog.records] == [
        "OSError('a')",
        "ValueError('c')",
    ]
    assert feed.errors == 3
