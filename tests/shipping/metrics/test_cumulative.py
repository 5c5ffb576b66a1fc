from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from aqltelemetry.reading.rows import Process, Rows
from aqltelemetry.shipping.metrics.cumulative import Point, RecordingTotals, Steps, Total

_S = 1_000_000_000
_STEPS = Steps(10_000, lambda values: np.minimum(values.astype(int), 3))


def _rows(*rows: tuple[float, str, float]) -> Rows:
    labels: Sequence[str] = sorted({label for _, label, _ in rows})
    return Rows.of_process(
        Process(1, "a" * 16),
        np.array([round(at_s * _S) for at_s, _, _ in rows], np.int64),
        np.array([value for _, _, value in rows], np.float64),
        np.array([labels.index(label) for _, label, _ in rows], np.int8),
        labels,
    )


def _counts(points: Sequence[Point]) -> list[tuple[int, int]]:
    return [(at_ms, value.count) for at_ms, value in points if isinstance(value, Total)]


def test_there_is_one_point_for_each_label_and_interval_after_a_first_one_of_zero() -> None:
    totals = RecordingTotals(0)
    rows = _rows((12.0, "a", 0.5), (101.0, "b", 1.5), (11.0, "a", 2.5), (21.0, "a", 9.0))
    points = totals.add(rows, _STEPS)
    assert _counts(points["a"]) == [(2_000, 0), (12_000, 2), (21_000, 3)]
    assert points["a"][-1].value == Total(3, 12.0, 0.5, 9.0, {0: 1, 2: 1, 3: 1})
    assert _counts(points["b"]) == [(91_000, 0), (101_000, 1)]


def test_the_next_file_continues_after_the_last_point_even_if_its_times_are_earlier() -> None:
    totals = RecordingTotals(0)
    totals.add(_rows((12.0, "a", 0.0)), _STEPS)
    points = totals.add(_rows((11.9, "a", 0.0), (12.0, "a", 0.0)), _STEPS)
    assert _counts(points["a"]) == [(12_001, 3)]


def test_a_pause_is_followed_by_the_value_before_and_then_the_new_one() -> None:
    totals = RecordingTotals(0)
    totals.add(_rows((12.0, "a", 0.0)), _STEPS)
    points = totals.add(_rows((700.0, "a", 0.0)), _STEPS)
    assert _counts(points["a"]) == [(690_000, 1), (700_000, 2)]


def test_a_value_that_is_not_counted_is_the_last_one_of_its_interval() -> None:
    steps = _STEPS._replace(is_counted=lambda _: False)
    totals = RecordingTotals(0)
    rows = _rows((13.0, "rss", 3.0), (12.0, "rss", 2.0), (33.0, "rss", 5.0))
    points = totals.add(rows, steps)
    assert points["rss"] == [(13_000, 3.0), (23_000, 3.0), (33_000, 5.0)]


def test_values_that_are_no_number_and_labels_that_are_left_out_have_no_points() -> None:
    totals = RecordingTotals(0)
    rows = _rows((12.0, "a", math.nan), (12.0, "b", 1.0), (12.0, "c", 1.0))
    points = totals.add(rows, _STEPS._replace(is_left_out=lambda label: label == "c"))
    assert set(points) == {"b"}


@pytest.mark.parametrize("seed", range(5))
def test_totals_that_were_noted_and_read_again_give_the_same_points(seed: int) -> None:
    choose = random.Random(seed)
    kept = RecordingTotals(5)
    note = kept.note()
    count = 0
    for _ in range(6):
        rows = [
            (choose.uniform(0, 200), choose.choice("abc"), choose.expovariate(1))
            for _ in range(choose.randrange(1, 50))
        ]
        again = RecordingTotals.from_note(note)
        points = kept.add(_rows(*rows), _STEPS)
        assert again.add(_rows(*rows), _STEPS) == points
        note = kept.note()
        assert again.note() == note
        count += len(rows)
        for of_label in points.values():
            times = [at_ms for at_ms, _ in of_label]
            assert times == sorted(set(times))
    latest = [
        RecordingTotals.from_note(note).add(_rows((900.0, label, 0.0)), _STEPS) for label in "abc"
    ]
    ends = [points[-1].value for each in latest for points in each.values()]
    assert sum(end.count for end in ends if isinstance(end, Total)) == count + 3


def test_a_file_whose_labels_are_all_left_out_has_no_points() -> None:
    steps = _STEPS._replace(is_left_out=lambda label: label == "a")
    totals = RecordingTotals(0)
    assert totals.add(_rows((12.0, "a", 0.5)), steps) == {}
    assert totals.add(_rows(), steps) == {}
