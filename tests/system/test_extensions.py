"""That the compiled twins are there, are chosen, and do what the pure ones do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.journal import format as fmt
from aqltelemetry.journal import reader, records
from aqltelemetry.journal.format import Layout
from aqltelemetry.journal.labels import (
    NO_LABELS,
    TABLE_SLOTS,
    LabelTable,
    SeriesKey,
    random_table_base,
)
from aqltelemetry.journal.reader import Context, Reading
from aqltelemetry.journal.segment import Segment
from aqltelemetry.observation import Batch, Column, Kind, SegmentId, Series
from aqltelemetry.recording import hot_path, recorder
from aqltelemetry.sinks import csv_rows
from aqltelemetry.system import extensions
from aqltelemetry.system.clock import Anchor
from fakes import EPOCH_NS, FakeClock, header, memory_segments


def _extension(name: str) -> ModuleType:
    try:
        return import_module(f"aqltelemetry.{name}")
    except ImportError:
        reason = "needs the compiled twins, which a C compiler makes at the installation"
        if os.environ.get("AQLTELEMETRY_CI") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The compiled twin of the hot path, whichever is in use."""
    return _extension("recording._hot_path")


@pytest.fixture(scope="module", autouse=True)
def _compiled_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "compiled", _extension("sinks._csv_rows"))
        yield


def _in_use(environment: str) -> str:
    program = (
        "from aqltelemetry import time_block; from aqltelemetry.system import extensions; "
        "print(extensions.in_use(), time_block.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {extensions.VARIABLE: environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("environment", ["", "0"])
def test_the_compiled_twin_is_chosen_where_it_is(compiled: ModuleType, environment: str) -> None:
    assert _in_use(environment) == "compiled aqltelemetry.recording._hot_path"


@pytest.mark.parametrize("environment", ["1", "true", "YES"])
def test_the_environment_forces_the_pure_twin(environment: str) -> None:
    assert _in_use(environment) == "pure Python aqltelemetry.recording.hot_path"


def test_both_twins_have_the_same_names(compiled: ModuleType) -> None:
    names = (
        *("append_duration", "append_failure", "current_segment", "is_on", "record"),
        *("set_clock", "set_segment", "set_slow_path"),
    )
    for name in names:
        docs = [str(getattr(twin, name).__doc__).split() for twin in (compiled, hot_path)]
        assert docs[0] == docs[1]
    assert compiled.time_block.__text_signature__ == "(label, *, cpu=False)"
    assert compiled.time_block.__doc__.split() == str(hot_path.time_block.__doc__).split()


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((), {}), (("a", "b"), {}), (("a",), {"label": "b"}), ((), {"name": "x"})],
)
def test_a_block_takes_a_label_and_nothing_else(
    compiled: ModuleType, arguments: tuple[str, ...], keywords: dict[str, str]
) -> None:
    for twin in (compiled, hot_path):
        assert twin.time_block(label="x") is not twin.time_block("x")
        with pytest.raises(TypeError):
            twin.time_block(*arguments, **keywords)


class _Slow:
    """The slow way: stores what it can into a segment, and notes the rest."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.calls: list[tuple[SeriesKey, int, float, Layout]] = []

    def __call__(self, key: SeriesKey, at_ns: int, value: float, layout: Layout) -> None:
        try:
            label_id = self.segment.ids[key]
            body = layout.pack(at_ns, value, label_id)
            at = next(self.segment.slots)
            layout.store(self.segment.map, at, at_ns, value, label_id, zlib.crc32(body, at))
        except Exception:
            self.calls.append((key, at_ns, value, layout))


class _On:
    """A twin that records into a segment of its own, as a recorder would have it."""

    def __init__(self, twin: ModuleType) -> None:
        self.twin = twin
        (made,) = memory_segments(1)
        self.segment = Segment(made.map, header(id_base=77), None)
        positions = range(fmt.RECORDS_AT, fmt.RECORDS_AT + 40 * fmt.RECORD_BYTES, fmt.RECORD_BYTES)
        self.segment.slots = _extension("journal._records").Slots(
            self.segment.map, self.segment.ids, positions
        )
        for key in ("a", "b", "b failed", ("custom", "a"), ("other", "c")):
            self.segment.register(key)
        self.slow = _Slow(self.segment)
        self.clock = FakeClock(step_ns=7)

    def __enter__(self) -> Self:
        self.twin.set_slow_path(self.slow)
        self.twin.set_clock(self.clock)
        self.twin.set_segment(self.segment)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.twin.set_segment(None)
        self.twin.set_clock(None)
        self.twin.set_slow_path(recorder._append)


_LABELS = st.sampled_from(["a", "b", "c", "new", None, 3, ["list"], "x" * 300, ("custom", "a")])
_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.sampled_from([True, None, "3", 10**400]),
)
_ENDS = (ValueError, StopIteration, asyncio.CancelledError, KeyboardInterrupt)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append_duration"), _LABELS, _NUMBERS, _NUMBERS),
        st.tuples(st.just("record"), _LABELS, _NUMBERS),
        st.tuples(st.just("record"), _LABELS, _NUMBERS, st.sampled_from(["custom", "other", 5])),
        st.tuples(st.sampled_from(["enter", "leave"]), st.integers(0, 4)),
        st.tuples(
            st.sampled_from(["raise", "leave by"]), st.integers(0, 4), st.sampled_from(_ENDS)
        ),
        st.tuples(st.sampled_from(["off", "on"])),
    ),
    max_size=60,
)


def _run(on: _On, steps: list[tuple[object, ...]]) -> None:
    blocks = [on.twin.time_block(label) for label in ("a", "b", "new", "x" * 199, 7)]
    for name, *arguments in steps:
        if name in ("append_duration", "record"):
            getattr(on.twin, str(name))(*arguments)
        elif name == "enter":
            blocks[arguments[0]].__enter__()  # type: ignore[call-overload]
        elif name == "leave":
            blocks[arguments[0]].__exit__(None, None, None)  # type: ignore[call-overload]
        elif name == "leave by":
            blocks[arguments[0]].__exit__(arguments[1], None, None)  # type: ignore[call-overload]
        elif name == "raise":
            error = arguments[1]("the application's")  # type: ignore[operator]
            with pytest.raises(type(error), match="application") as caught, blocks[arguments[0]]:  # type: ignore[call-overload]
                raise error
            assert caught.value is error
        else:
            on.twin.set_segment(on.segment if name == "on" else None)


@settings(deadline=None)
@given(_STEPS)
def test_the_same_calls_store_the_same_bytes_and_leave_the_same_to_the_slow_way(
    compiled: ModuleType, steps: list[tuple[object, ...]]
) -> None:
    found = []
    for twin in (hot_path, compiled):
        with _On(twin) as on:
            _run(on, steps)
            # By their texts, as a value that is no number is unlike itself.
            found.append((on.segment.map[fmt.LABELS_AT :], on.segment.taken, repr(on.slow.calls)))
    assert found[0] == found[1]


def test_records_carry_the_crc_of_zlib_seeded_with_their_position(compiled: ModuleType) -> None:
    with _On(compiled) as on:
        for number in range(40):
            compiled.append_duration("a", number**9, -(number**8))
    for at in range(fmt.RECORDS_AT, fmt.RECORDS_AT + 40 * fmt.RECORD_BYTES, fmt.RECORD_BYTES):
        record = on.segment.map[at : at + fmt.RECORD_BYTES]
        assert int.from_bytes(record[20:], "little") == zlib.crc32(record[:20], at)
    assert on.slow.calls == []


def test_slots_of_the_compiled_twin_stay_within_the_segment(compiled: ModuleType) -> None:
    (segment,) = memory_segments(1)
    step = fmt.RECORD_BYTES
    for positions in (range(fmt.RECORDS_AT, segment.size_bytes + 1, step), range(0, 100, 8)):
        with pytest.raises(ValueError, match="not the slots"):
            _extension("journal._records").Slots(segment.map, segment.ids, positions)


def test_the_compiled_twin_has_a_record_go_the_slow_way_if_the_segment_requires_it(
    compiled: ModuleType,
) -> None:
    """So that the recorder may wait for a moment there, once in thousands of records or often."""
    (segment,) = memory_segments(1)
    slots = _extension("journal._records").Slots(
        segment.map, segment.ids, range(fmt.RECORDS_AT, segment.size_bytes - 23, fmt.RECORD_BYTES)
    )
    segment.slots = slots
    segment.register("a")
    slow = _Slow(segment)
    compiled.set_slow_path(slow)
    compiled.set_segment(segment)
    stored: list[int] = []
    slow_append = slow.__call__

    def noted(key: SeriesKey, at_ns: int, value: float, layout: Layout) -> None:
        stored.append(segment.taken)
        slow_append(key, at_ns, value, layout)

    compiled.set_slow_path(noted)
    try:
        for _ in range(9_000):
            compiled.append_duration("a", 1, 1)
        _extension("journal._records").stop_after(slots, 10)
        for _ in range(20):
            compiled.append_duration("a", 1, 1)
    finally:
        compiled.set_segment(None)
        compiled.set_slow_path(recorder._append)
    assert stored == [4096, 8192, 9010]
    assert segment.taken == 9_020


def _both() -> Iterator[bool]:
    """Go through both twins of reading and writing."""
    with pytest.MonkeyPatch.context() as patch:
        for is_compiled in (False, True):
            read = _extension("journal._records") if is_compiled else records
            patch.setattr(reader, "records", read)
            blocks = csv_rows._compiled_blocks if is_compiled else csv_rows._pure_blocks
            patch.setattr(csv_rows, "_write_blocks", blocks)
            yield is_compiled


def _plain(reading: Reading) -> object:
    batch = reading.batch
    columns = [(c.series, list(c.timepoints_ns), list(c.values)) for c in batch.columns]
    return repr((columns, batch.segment, reading.records, reading.damaged))


_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.one_of(st.integers(0, 3000), st.integers(-(2**63), 2**63 - 1)),
        st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=80,
)
_ANCHORS = st.lists(st.tuples(st.integers(0, 3000), st.integers(-500, 500)), max_size=4)


@settings(deadline=None)
@given(
    _EVENTS, _ANCHORS, st.lists(st.tuples(st.integers(0, 1999), st.integers(0, 255)), max_size=8)
)
def test_both_twins_read_the_same_from_any_segment(
    events: list[tuple[int, int, int]],
    anchors: list[tuple[int, int]],
    damages: list[tuple[int, int]],
) -> None:
    (segment,) = memory_segments(1)
    for at_ns, offset_ns in anchors:
        segment.append_anchor(Anchor(at_ns, offset_ns))
    keys: list[SeriesKey] = ["a", "b", ("custom", "a"), ("custom", "b")]
    ids = [*(segment.register(key) for key in keys), segment.header.id_base + 900]
    table = LabelTable(None, random_table_base())
    segment.share(table)
    first_id = table.labels.first_id
    # Of the table, the last of which names nothing, and behind it.
    ids += [*(segment.register(key) for key in ("a", "c")), first_id + 9, first_id + TABLE_SLOTS]
    for number, at_ns, value in events:
        label_id, at = ids[number] or 0, next(segment.slots)
        body = fmt.DURATION_LAYOUT.pack(at_ns, value, label_id)
        crc = zlib.crc32(body, at)
        fmt.DURATION_LAYOUT.store(segment.map, at, at_ns, value, label_id, crc)
    for at, byte in damages:
        segment.map[fmt.RECORDS_AT + at] = byte
    for check in (False, True):
        for labels in (table.labels, NO_LABELS):
            context = Context(labels=labels)
            found = [
                _plain(
                    reader.read_segment(
                        segment.map[:], recovered=check, context=context, yield_gil=lambda: None
                    )
                )
                for _ in _both()
            ]
            assert found[0] == found[1]


_INT64 = st.integers(-(2**63), 2**63 - 1)
_VALUES = {
    Kind.NANOSECONDS: st.one_of(_INT64, st.integers(0, 2 * 10**9), st.integers(-(2**70), 2**70)),
    Kind.FLOAT: st.one_of(st.floats(), st.integers(-(10**17), 10**17).map(float)),
}


@st.composite
def _columns(draw: st.DrawFn) -> Column:
    kind = draw(st.sampled_from(Kind))
    label = draw(st.sampled_from(["/a", 'with "quotes", and commas', "100 %d", "ü", ""]))
    rows = draw(st.lists(st.tuples(_INT64, _VALUES[kind]), min_size=1, max_size=30))
    timepoints, values = map(list, zip(*rows, strict=True))
    if draw(st.booleans()):
        timepoints = [EPOCH_NS + number for number in range(len(rows))]
    if kind is Kind.FLOAT and draw(st.booleans()):
        return Column(Series("custom", label, kind), array("q", timepoints), array("d", values))
    return Column(Series("custom", label, kind), timepoints, values)


def _blocks(batch: Batch) -> dict[str, list[tuple[bytes, int, int]]]:
    texts = csv_rows.format_batch(batch, yield_gil=lambda: None)
    for blocks in texts.values():
        assert b"".join(csv_rows.joined(blocks)) == b"".join(block.text for block in blocks)
    return {
        prefix: [(bytes(block.text), block.from_ns, block.to_ns) for block in blocks]
        for prefix, blocks in texts.items()
    }


@settings(deadline=None)
@given(st.lists(_columns(), max_size=4), st.sampled_from([4096, 10_000, 1 << 24]))
def test_both_twins_write_the_same_blocks(columns: list[Column], max_file_bytes: int) -> None:
    batch = Batch(SegmentId("0" * 16, 1), 4711, max_file_bytes, columns)
    found = [_blocks(batch) for _ in _both()]
    assert found[0] == found[1]


def test_both_twins_cut_a_long_column_into_the_same_blocks() -> None:
    for rows, (kind, typecode) in product((511, 512, 513, 5_000), ((0, "q"), (1, "d"))):
        values = array(typecode, range(rows))
        timepoints = array("q", range(EPOCH_NS, EPOCH_NS + rows * 10**8, 10**8))
        column = Column(Series("custom", "/a", Kind(kind)), timepoints, values)
        batch = Batch(SegmentId("0" * 16, 1), 4711, 1 << 24, [column])
        found = [_blocks(batch) for _ in _both()]
        assert found[0] == found[1]
        assert len(found[0]["custom"]) == -(-rows // 512)


def test_both_twins_look_labels_up_in_a_table_once_it_is_shared(compiled: ModuleType) -> None:
    table = LabelTable(None, random_table_base())
    for twin in (hot_path, compiled):
        with _On(twin) as on:
            own = on.segment.ids["a"]
            twin.append_duration("a", 1, 1)
            _extension("journal._records").share(on.segment.slots, table.ids)
            on.segment.ids = table.ids
            table.register("a", Series("duration", "a", Kind.NANOSECONDS))
            twin.append_duration("a", 2, 2)
            twin.append_duration("b", 3, 3)
            begin = fmt.RECORDS_AT
            records = [
                fmt.unpack_duration(on.segment.map[at : at + fmt.RECORD_BYTES])
                for at in range(begin, begin + 2 * fmt.RECORD_BYTES, fmt.RECORD_BYTES)
            ]
            assert records == [(1, 1, own), (2, 2, table.ids["a"])]
            assert [call[0] for call in on.slow.calls] == ["b"]
