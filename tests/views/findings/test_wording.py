from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from aqltelemetry.views.findings import wording
from fakes import EPOCH_NS

_DAY_NS = 86_400_000_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 ms"), (43e-6, "0.0430 ms"), (0.0842, "84.2 ms"), (0.08, "80 ms")),
        *((0.268, "268 ms"), (2.4, "2.40 s"), (3, "3 s"), (3154.2, "3,154 s"), (12.34, "12.3 s")),
    ],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.0004, "0.04 %"),
        (0.004, "0.4 %"),
        (0.062, "6.2 %"),
        (0.999, "99 %"),
        (1, "100 %"),
    ],
)
def test_shares_are_not_rounded_to_all_or_to_none(value: float, text: str) -> None:
    assert wording.share(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3.0 s"), (45, "45 s"), (300, "5.0 min"), (1080, "18 min"), (12_600, "3.5 hours")],
)
def test_spans_have_a_suitable_unit(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text


def test_sizes_are_mebibytes_or_gibibytes() -> None:
    sizes = [5 << 19, 212 << 20, 3 << 29]
    assert [wording.size(each) for each in sizes] == ["2.5 MiB", "212 MiB", "1.5 GiB"]


def test_names_are_listed_up_to_a_limit() -> None:
    names = ["a", "b", "c", "d", "e"]
    listed = [wording.listed(names[:count]) for count in range(6)]
    assert listed == ["", "a", "a and b", "a, b and c", "a, b and 2 more", "a, b and 3 more"]


def test_siblings_are_counted() -> None:
    assert [wording.siblings(1), wording.siblings(3)] == ["its sibling", "its 3 siblings"]


def test_times_have_a_date_only_if_the_recording_has_several_days() -> None:
    short = wording.Calendar(EPOCH_NS, EPOCH_NS + 60_000_000_000, UTC)
    assert short.at(EPOCH_NS) == "22:13:20"
    long = wording.Calendar(EPOCH_NS, EPOCH_NS + _DAY_NS, UTC)
    assert long.at(EPOCH_NS) == "2023-11-14 22:13:20"
    east = wording.Calendar(EPOCH_NS, EPOCH_NS, timezone(timedelta(hours=2)))
    assert east.at(EPOCH_NS) == "00:13:20"
