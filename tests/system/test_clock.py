from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.system import clock
from aqltelemetry.system.clock import AgeClock, Anchor, follow, read_anchor, to_epoch
from fakes import EPOCH_NS, FakeClock

_S = 1_000_000_000


def test_an_anchor_is_the_distance_of_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic_ns", FakeClock(100, step_ns=10))
    monkeypatch.setattr(clock, "epoch_ns", FakeClock(5_000))
    assert read_anchor() == Anchor(110, 5_000 - 105)


def test_a_clock_set_forward_is_followed_at_once() -> None:
    assert follow(Anchor(0, 100), Anchor(_S, 100 + 3600 * _S)) == Anchor(_S, 100 + 3600 * _S)


def test_a_clock_set_back_is_approached_at_half_speed() -> None:
    first = follow(Anchor(0, 0), Anchor(_S, -3600 * _S))
    assert first == Anchor(_S, -_S // 2)
    assert follow(first, Anchor(2 * _S, -3600 * _S)) == Anchor(2 * _S, -_S)


def test_a_small_error_is_gone_with_the_next_anchor() -> None:
    assert follow(Anchor(0, 1000), Anchor(_S, 400)) == Anchor(_S, 400)


@given(
    st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=20),
    st.lists(st.integers(0, 25 * _S), min_size=1),
)
def test_timepoints_never_run_backwards(offsets: list[int], times: list[int]) -> None:
    anchors = [Anchor(0, offsets[0])]
    for second, offset in enumerate(offsets[1:], 1):
        anchors.append(follow(anchors[-1], Anchor(second * _S, offset)))
    epochs = to_epoch(sorted(times), anchors)
    assert epochs == sorted(epochs)


@given(st.lists(st.integers(0, 10 * _S), min_size=2))
def test_times_are_converted_alone_as_in_a_sequence(times: list[int]) -> None:
    anchors = [Anchor(0, 5), Anchor(2 * _S, 3), Anchor(4 * _S, 10**6), Anchor(6 * _S, -_S // 3)]
    assert to_epoch(times, anchors) == [to_epoch([each], anchors)[0] for each in times]


def test_times_before_the_first_anchor_are_converted_by_it() -> None:
    assert to_epoch([5], [Anchor(10, 100)]) == [105]


def test_no_times_give_no_timepoints() -> None:
    assert to_epoch([], [Anchor(0, 0)]) == []


def test_ages_follow_a_running_wall_clock() -> None:
    wall, passed = FakeClock(EPOCH_NS), FakeClock(5)
    age_now = AgeClock(wall, passed)
    for each in (wall, passed):
        each.now_ns += 10**9 * _S
    assert age_now() == EPOCH_NS + 10**9 * _S


@pytest.mark.parametrize(
    ("step_s", "followed_s"), [(-(10**6), -(10**6)), (60, 60), (3600, 3600), (3601, 3600)]
)
def test_a_step_of_the_wall_clock_makes_files_no_more_than_an_hour_older(
    step_s: int, followed_s: int
) -> None:
    wall, passed = FakeClock(EPOCH_NS), FakeClock(5)
    age_now = AgeClock(wall, passed)
    wall.now_ns += step_s * _S
    assert age_now() == EPOCH_NS + followed_s * _S
