"""Durations are counted and grouped; by counting the figures are those that sorting gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from aqltelemetry.reading.rows import Process, Rows, codes_type
from aqltelemetry.views.strips import counted_cells
from aqltelemetry.views.strips.cells import Cells, Grid, Span, grid
from aqltelemetry.views.strips.durations import Durations, Grouping, count_inside

_S = 10**9
_LABELS = ("/a [GET]", "/b [GET]", "/c [GET]", "block")
_WORKERS = (Process(7, "a"), Process(8, "b"))
_WIDE = Span(100 * _S, 160 * _S)

compiled_only = pytest.mark.skipif(
    counted_cells.compiled is None, reason="there is no compiled module"
)


def _values(kind: str, chance: np.random.Generator, rows: int) -> np.ndarray:
    values = chance.lognormal(-4, 2, rows).round(9)
    if kind == "odd":
        values[::17], values[1::17], values[2::17] = np.nan, np.inf, -np.inf
        values[3::17], values[4::17], values[5::17] = 0.0, -1.5, 365 * 86400.0
        values[6::17], values[7::17], values[8::17] = 5e-324, 1e10, 1e-10
    elif kind == "equal":
        values[:] = 0.25
    elif kind == "edges":
        values = 2.0 ** (chance.integers(-200, 200, rows) / 16)
    return values


def _part(number: int, kind: str, rows: int = 3000, code_type: Any = np.int8) -> Rows:
    """Return rows of some of the labels, whose codes depend on the part."""
    chance = np.random.default_rng(number)
    labels = [*_LABELS[number % 2 :], f"/own/{number} [GET]"]
    processes = [*_WORKERS[:: 1 - 2 * (number % 2)], Process(9, "c")]
    codes = chance.integers(0, len(labels), rows)
    codes[: rows // 2].sort()  # in runs, as in files
    return Rows(
        chance.integers(90 * _S, 170 * _S, rows),
        _values(kind, chance, rows),
        codes.astype(code_type),
        labels,
        chance.integers(0, len(processes), rows).astype(codes_type(len(processes))),
        processes,
    )


def _cells(parts: Sequence[Rows], span: Span, window: Grid) -> Cells:
    found = Durations(parts, window, span)
    names = found.names
    routes = ("/a [GET]", "block", "missing")
    number = {label: index for index, label in enumerate(routes)}
    route = np.array([number.get(name, -1) for name in names], np.int64)
    are_requests = np.array([name.endswith("[GET]") for name in names], dtype=bool)
    return found.cells(Grouping(are_requests, route, len(routes), _WORKERS, {}))


def _assert_same(found: Cells, wanted: Cells) -> None:
    for field in fields(Cells):
        got, expected = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "heats":
            for own, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(own.edges_s, other.edges_s)
                np.testing.assert_array_equal(own.counts, other.counts)
        elif field.name in {"p50_s", "p90_s"}:  # not of workers
            drawn = len(found.heats)
            np.testing.assert_array_equal(got[:drawn], expected[:drawn], err_msg=field.name)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=field.name)


@compiled_only
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["usual", "odd", "equal", "edges"])
@pytest.mark.parametrize("span", [_WIDE, Span(100 * _S + 7, 130 * _S - 7), Span(0, 200 * _S)])
def test_counting_gives_the_figures_that_sorting_gives(
    kind: str, span: Span, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [_part(number, kind) for number in range(4)]
    window = grid(span, 50)
    wanted = _cells(parts, span, window)
    assert not counted_cells.is_faster(12000, (6, 50, 4))
    monkeypatch.setattr(counted_cells, "_MIN_ROWS", 0)
    monkeypatch.setattr(counted_cells, "_ROWS_PER_THREAD", 12000 // threads)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(threads))
    _assert_same(_cells(parts, span, window), wanted)


@compiled_only
@pytest.mark.parametrize("code_type", [np.int8, np.int16, np.int32, np.int64])
def test_codes_may_have_any_size(code_type: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    part = _part(1, "usual", code_type=code_type)
    part = replace(part, process_codes=part.process_codes.astype(code_type))
    wanted = _cells([part], _WIDE, grid(_WIDE, 50))
    monkeypatch.setattr(counted_cells, "_MIN_ROWS", 0)
    _assert_same(_cells([part], _WIDE, grid(_WIDE, 50)), wanted)


@compiled_only
def test_nothing_can_be_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_cells, "_MIN_ROWS", 0)
    for parts in ([], [_part(1, "usual", rows=0)]):
        cells = _cells(parts, _WIDE, grid(_WIDE, 50))
        assert cells.count.sum() == 0
        assert np.isnan(cells.totals_s).all()


@pytest.mark.parametrize("are_compiled", [False, pytest.param(True, marks=compiled_only)])
def test_labels_are_counted_in_each_bin(
    are_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not are_compiled:
        monkeypatch.setattr(counted_cells, "compiled", None)
    parts = [_part(number, "odd") for number in range(3)]
    window = grid(_WIDE, 50)
    found = Durations(parts, window, _WIDE)
    for name, counts in zip(found.names, found.counts, strict=True):
        times = [p.timepoints_ns[np.array(p.labels)[p.label_codes] == name] for p in parts]
        bins = window.numbers(np.concatenate(times))
        wanted = np.bincount(bins[(bins >= 0) & (bins < window.bins)], minlength=window.bins)
        assert counts.tolist() == wanted.tolist()


def test_rows_in_a_span_are_counted_without_looking_at_others() -> None:
    part = _part(1, "usual")
    times = part.timepoints_ns
    for span in (_WIDE, Span(0, 200 * _S), Span(0, 1), Span(170 * _S, 180 * _S)):
        inside = (times >= span.begin_ns) & (times < span.end_ns)
        assert count_inside([part], span) == np.count_nonzero(inside)


def test_blocks_are_all_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aqltelemetry.reading.rows._BLOCK_ROWS", 700)
    part = _part(1, "usual")
    assert [len(block) for block in part.blocks] == [700] * 4 + [200]
    assert np.concatenate([b.measurements for b in part.blocks]).tolist() == (
        part.measurements.tolist()
    )
    last = part.blocks[-1].timepoints_ns
    assert part.blocks[-1].span_ns == (last.min(), last.max())
    assert part[:0].span_ns is None
