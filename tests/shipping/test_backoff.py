from __future__ import annotations

from aqltelemetry.shipping.backoff import Backoff


def test_the_longest_wait_doubles_up_to_a_minute() -> None:
    backoff = Backoff(lambda: 1.0)
    waits = [backoff.next_s() for _ in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.failures == 9


def test_each_wait_is_a_random_part_of_the_longest_one() -> None:
    numbers = iter([0.0, 0.5, 0.25])
    backoff = Backoff(lambda: next(numbers))
    assert [backoff.next_s() for _ in range(3)] == [0.0, 0.5, 0.5]


def test_a_success_starts_again() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert (backoff.failures, backoff.next_s()) == (0, 0.5)


def test_a_very_long_outage_is_no_overflow() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.failures = 100_000
    assert backoff.next_s() == 60
