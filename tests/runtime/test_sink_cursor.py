from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from aqltelemetry.observation import Batch, Column, Kind, SegmentId, Series
from aqltelemetry.runtime.sink_cursor import Feed
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


def _batch(segment: SegmentId, *prefixes: str, rows: int = 1) -> Batch:
    columns = [
        Column(Series(prefix, "x", Kind.FLOAT), range(rows), [1.0] * rows) for prefix in prefixes
    ]
    return Batch(segment, 4711, 1 << 20, columns)


async def test_segments_are_given_in_order() -> None:
    feed = Feed(MemorySink())
    for segment in (_ONE, _TWO, _THREE):
        feed.add(segment)
    assert list(feed.todo) == [_ONE, _TWO, _THREE]
    assert await feed.write(_batch(_ONE), 0.0) == [_ONE]
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


class SayingSink(MemorySink):
    """Returns what it is told to."""

    def __init__(self, *said: object) -> None:
        super().__init__()
        self._said = list(said)

    async def write(self, batch: Batch) -> Any:
        await super().write(batch)
        said = self._said.pop(0)
        return said(batch) if callable(said) else said

    async def flush(self) -> Any:
        return self._said.pop(0)


def _numbers(segments: Sequence[SegmentId]) -> list[int]:
    return [segment.sequence for segment in segments]


async def test_a_segment_that_is_named_again_is_kept_once() -> None:
    feed = Feed(SayingSink([_ONE], [_ONE, _TWO], [_ONE, _TWO, _THREE], [_ONE, _TWO, _THREE]))
    kept = [await feed.write(_batch(segment), 0.0) for segment in (_ONE, _TWO, _THREE)]
    assert [_numbers(each) for each in kept] == [[1], [2], [3]]
    assert await feed.flush() == []


@pytest.mark.parametrize(
    "said",
    [
        (_ONE, _ONE),
        iter([_ONE]),
        {_ONE: None},
        frozenset([_ONE]),
        [("0123456789abcdef", 1)],
        [SegmentId("f" * 16, 1), _ONE, SegmentId("0123456789abcdef", 99), _TWO],
        [None, 1, "x", [], {}, _ONE, ("a", "b", "c"), (1, 2), ([], {})],
        (segment for segment in (_ONE,)),
    ],
)
async def test_of_what_a_sink_returns_only_what_it_was_given_counts(said: object) -> None:
    feed = Feed(SayingSink(said))
    feed.add(_ONE)
    feed.add(_TWO)
    assert await feed.write(_batch(_ONE), 0.0) == [_ONE]
    assert feed.todo == (_TWO,)


@pytest.mark.parametrize(
    "said", [None, 7, True, _batch(_ONE).segment.sequence, object(), "abc", b"x"]
)
async def test_a_sink_that_returns_nonsense_keeps_nothing_and_is_logged_once(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(SayingSink(said, said, said))
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        for segment in (_ONE, _TWO, _THREE):
            assert not await feed.write(_batch(segment), 0.0)
    assert len(caplog.records) == 1
    assert "must return" in caplog.text


async def test_what_a_sink_has_not_been_given_yet_or_failed_on_is_given_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    feed = Feed(SayingSink([_ONE, _TWO, _THREE], [_ONE, _TWO]))
    for segment in (_ONE, _TWO, _THREE):
        feed.add(segment)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert await feed.write(_batch(_ONE), 0.0) == [_ONE]
        assert list(feed.todo) == [_TWO, _THREE]
        assert await feed.write(_batch(_TWO), 0.0) == [_TWO]
    assert list(feed.todo) == [_THREE]
    assert len(caplog.records) == 1


async def test_a_generator_that_raises_is_a_sink_that_raises() -> None:
    def said(batch: Batch) -> Iterator[SegmentId]:
        yield batch.segment
        raise OSError("down")

    feed = Feed(SayingSink(said))
    with pytest.raises(OSError, match="down") as caught:
        await feed.write(_batch(_ONE), 0.0)
    feed.fail(caught.value, 0.0)
    assert list(feed.todo) == [_ONE]


async def _second(*prefixes: str, rows: int = 1, may_wait: bool = True) -> Feed:
    """Give a sink, which has kept samples before, a batch at the second 100."""
    feed = Feed(SlowSink(), may_wait=may_wait)
    await feed.write(_batch(_ONE, "runtime"), 0.0)
    assert feed.flush_at_s(60.0) == 60.0
    await feed.flush()
    await feed.write(_batch(_TWO, *prefixes, rows=rows), 100.0)
    return feed


async def test_samples_alone_wait_longer_once_some_were_kept() -> None:
    feed = await _second("runtime")
    assert feed.is_quiet
    assert feed.flush_at_s(60.0) == 700.0
    await feed.write(_batch(_THREE, "runtime"), 400.0)
    assert feed.flush_at_s(60.0) == 700.0


@pytest.mark.parametrize(
    ("max_age_s", "due_s"), [(0.1, 101.0), (30.0, 400.0), (300.0, 700.0), (3600.0, 3700.0)]
)
async def test_samples_wait_ten_times_as_long_or_ten_minutes(
    max_age_s: float, due_s: float
) -> None:
    assert (await _second("runtime")).flush_at_s(max_age_s) == due_s


@pytest.mark.parametrize("prefixes", [("duration",), ("runtime", "custom"), ("mine",)])
async def test_whatever_else_is_observed_ends_the_wait(prefixes: tuple[str, ...]) -> None:
    feed = await _second("runtime")
    await feed.write(_batch(_THREE, *prefixes), 400.0)
    assert not feed.is_quiet
    assert feed.flush_at_s(60.0) == 160.0  # which has passed


async def test_many_samples_do_not_wait() -> None:
    assert (await _second("runtime", rows=30_000)).flush_at_s(60.0) == 160.0


async def test_nothing_waits_for_who_shares_the_batches_with_another_sink() -> None:
    feed = await _second("runtime", may_wait=False)
    assert not feed.is_quiet
    assert feed.flush_at_s(60.0) == 160.0
