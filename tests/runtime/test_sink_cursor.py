from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from aqltelemetry.observation import Batch, Column, Kind, SegmentId, Series
from aqltelemetry.runtime.sink_cursor import SinkCursor
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
    cursor = SinkCursor(MemorySink())
    for segment in (_ONE, _TWO, _THREE):
        cursor.add(segment)
    assert list(cursor.todo) == [_ONE, _TWO, _THREE]
    assert await cursor.write(_batch(_ONE), 0.0) == [_ONE]
    assert list(cursor.todo) == [_TWO, _THREE]


async def test_what_a_sink_took_and_does_not_keep_is_due_for_a_flush() -> None:
    cursor = SinkCursor(SlowSink())
    assert cursor.flush_at_s(60.0) is None
    await cursor.write(_batch(_ONE), 10.0)
    await cursor.write(_batch(_TWO), 30.0)
    assert cursor.flush_at_s(60.0) == 70.0
    assert await cursor.flush() == [_ONE, _TWO]
    assert cursor.flush_at_s(60.0) is None


async def test_after_a_failure_all_segments_that_are_not_kept_are_given_again_in_order() -> None:
    sink = SlowSink()
    cursor = SinkCursor(sink)
    cursor.add(_THREE)
    await cursor.write(_batch(_ONE), 0.0)
    await cursor.write(_batch(_TWO), 0.0)
    sink.failures = [OSError("no space")]
    with pytest.raises(OSError, match="no space"):
        await cursor.flush()
    assert cursor.todo == (_ONE, _TWO, _THREE)
    assert cursor.flush_at_s(60.0) is None


async def test_after_a_failure_that_the_sink_did_not_see_it_is_given_nothing_twice() -> None:
    cursor = SinkCursor(SlowSink())
    cursor.add(_TWO)
    await cursor.write(_batch(_ONE), 0.0)
    cursor.fail(OSError("the segment could not be read"), 0.0)
    assert cursor.errors == 1
    assert cursor.todo == (_TWO,)
    assert await cursor.flush() == [_ONE]


async def test_pauses_between_tries_grow_to_half_a_minute_and_end_with_success() -> None:
    cursor = SinkCursor(SlowSink())
    pauses = []
    for _ in range(7):
        cursor.fail(OSError("no space"), 100.0)
        pauses.append(cursor.retry_at_s - 100.0)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    await cursor.write(_batch(_ONE), 0.0)
    await cursor.flush()
    cursor.fail(OSError("no space"), 100.0)
    assert cursor.retry_at_s == 101.0


def test_a_failure_is_logged_once_for_each_type(caplog: pytest.LogCaptureFixture) -> None:
    cursor = SinkCursor(MemorySink())
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        for exc in (OSError("a"), OSError("b"), ValueError("c")):
            cursor.fail(exc, 0.0)
    assert [each.message.split(": ")[-1] for each in caplog.records] == [
        "OSError('a')",
        "ValueError('c')",
    ]
    assert cursor.errors == 3


class SayingSink(MemorySink):
    """Returns the given results, one for each call."""

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


async def test_a_segment_that_is_named_again_counts_once() -> None:
    cursor = SinkCursor(
        SayingSink([_ONE], [_ONE, _TWO], [_ONE, _TWO, _THREE], [_ONE, _TWO, _THREE])
    )
    kept = [await cursor.write(_batch(segment), 0.0) for segment in (_ONE, _TWO, _THREE)]
    assert [_numbers(each) for each in kept] == [[1], [2], [3]]
    assert await cursor.flush() == []


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
async def test_only_segments_that_a_sink_was_given_count_as_kept(said: object) -> None:
    cursor = SinkCursor(SayingSink(said))
    cursor.add(_ONE)
    cursor.add(_TWO)
    assert await cursor.write(_batch(_ONE), 0.0) == [_ONE]
    assert cursor.todo == (_TWO,)


@pytest.mark.parametrize(
    "said", [None, 7, True, _batch(_ONE).segment.sequence, object(), "abc", b"x"]
)
async def test_a_wrong_result_of_a_sink_keeps_nothing_and_is_logged_once(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = SinkCursor(SayingSink(said, said, said))
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        for segment in (_ONE, _TWO, _THREE):
            assert not await cursor.write(_batch(segment), 0.0)
    assert len(caplog.records) == 1
    assert "must return" in caplog.text


async def test_a_segment_that_a_sink_names_before_it_was_given_is_given_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cursor = SinkCursor(SayingSink([_ONE, _TWO, _THREE], [_ONE, _TWO]))
    for segment in (_ONE, _TWO, _THREE):
        cursor.add(segment)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert await cursor.write(_batch(_ONE), 0.0) == [_ONE]
        assert list(cursor.todo) == [_TWO, _THREE]
        assert await cursor.write(_batch(_TWO), 0.0) == [_TWO]
    assert list(cursor.todo) == [_THREE]
    assert len(caplog.records) == 1


async def test_a_generator_that_raises_is_an_error_of_the_sink() -> None:
    def said(batch: Batch) -> Iterator[SegmentId]:
        yield batch.segment
        raise OSError("down")

    cursor = SinkCursor(SayingSink(said))
    with pytest.raises(OSError, match="down") as caught:
        await cursor.write(_batch(_ONE), 0.0)
    cursor.fail(caught.value, 0.0)
    assert list(cursor.todo) == [_ONE]


async def _second(*prefixes: str, rows: int = 1, may_wait: bool = True) -> SinkCursor:
    """Give a sink, which has kept samples before, a batch at the second 100."""
    cursor = SinkCursor(SlowSink(), may_wait=may_wait)
    await cursor.write(_batch(_ONE, "runtime"), 0.0)
    assert cursor.flush_at_s(60.0) == 60.0
    await cursor.flush()
    await cursor.write(_batch(_TWO, *prefixes, rows=rows), 100.0)
    return cursor


async def test_samples_alone_wait_longer_after_the_first_flush() -> None:
    cursor = await _second("runtime")
    assert cursor.is_quiet
    assert cursor.flush_at_s(60.0) == 700.0
    await cursor.write(_batch(_THREE, "runtime"), 400.0)
    assert cursor.flush_at_s(60.0) == 700.0


@pytest.mark.parametrize(
    ("max_age_s", "due_s"), [(0.1, 101.0), (30.0, 400.0), (300.0, 700.0), (3600.0, 3700.0)]
)
async def test_samples_wait_ten_times_as_long_or_ten_minutes(
    max_age_s: float, due_s: float
) -> None:
    assert (await _second("runtime")).flush_at_s(max_age_s) == due_s


@pytest.mark.parametrize("prefixes", [("duration",), ("runtime", "custom"), ("mine",)])
async def test_other_observations_end_the_wait_of_samples(prefixes: tuple[str, ...]) -> None:
    cursor = await _second("runtime")
    await cursor.write(_batch(_THREE, *prefixes), 400.0)
    assert not cursor.is_quiet
    assert cursor.flush_at_s(60.0) == 160.0  # which has passed


async def test_many_samples_do_not_wait() -> None:
    assert (await _second("runtime", rows=30_000)).flush_at_s(60.0) == 160.0


async def test_samples_do_not_wait_with_several_sinks() -> None:
    cursor = await _second("runtime", may_wait=False)
    assert not cursor.is_quiet
    assert cursor.flush_at_s(60.0) == 160.0
