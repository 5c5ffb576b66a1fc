from __future__ import annotations

import numpy as np
import pytest

from aqltelemetry.views.live.busy import BusyTime, merged
from aqltelemetry.views.live.seconds import Span

_S = 10**9
_T = 1_700_000_000


def _busy(*pieces: list[tuple[float, float]]) -> BusyTime:
    busy = BusyTime()
    for piece in pieces:
        begins, ends = np.array(piece).T
        busy.add(_T * _S + (begins * _S).astype(np.int64), _T * _S + (ends * _S).astype(np.int64))
    return busy


def test_intervals_that_overlap_count_once() -> None:
    busy = _busy([(0.1, 0.5), (0.2, 0.3), (0.4, 0.6), (0.8, 0.9)])
    assert busy.busy_s(Span(_T, _T + 1)) == pytest.approx(0.6)


def test_an_interval_counts_in_each_second_that_it_lies_in() -> None:
    busy = _busy([(0.5, 3.25)])
    each = [busy.busy_s(Span(_T + second, _T + second + 1)) for second in range(5)]
    assert each == pytest.approx([0.5, 1, 1, 0.25, 0])
    assert busy.busy_s(None) == pytest.approx(2.75)


def test_a_request_around_blocks_that_ended_before_it_counts_once() -> None:
    busy = _busy([(0.2, 0.4), (0.5, 0.6)], [(0.1, 0.9)])
    assert busy.busy_s(Span(_T, _T + 1)) == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_give_what_all_at_once_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.uniform(0, 12, 3000))
    begins = ends - rng.lognormal(-6, 2, 3000)
    whole = _busy([*zip(begins, ends, strict=True)])
    cut = _busy(*([*zip(b, e, strict=True)] for b, e in zip(
        np.array_split(begins, 12), np.array_split(ends, 12), strict=True
    )))  # fmt: skip
    span = Span(_T, _T + 13)
    assert cut.busy_s(span) == pytest.approx(whole.busy_s(span), abs=0.03)


def test_time_before_the_kept_seconds_counts_in_all() -> None:
    busy = _busy([(0.0, 0.5)], [(1000.0, 1000.25)])
    assert busy.busy_s(Span(_T + 900, _T + 1001)) == pytest.approx(0.25)
    assert busy.busy_s(None) == pytest.approx(0.75)


def test_merged_intervals_are_disjoint_and_in_order() -> None:
    begins, ends = merged(np.array([5, 1, 2, 9]), np.array([6, 3, 4, 10]))
    assert [*zip(begins.tolist(), ends.tolist(), strict=True)] == [(1, 4), (5, 6), (9, 10)]
