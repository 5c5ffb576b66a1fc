"""Times in common forms are accepted, and everything else is an error."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.errors import MomentError, OptionError
from aqltelemetry.reading.moments import EXAMPLES, moment_ns

_BERLIN = ZoneInfo("Europe/Berlin")
_NOW = datetime(2026, 11, 24, 12, 0, tzinfo=_BERLIN)
_S = 1_000_000_000
_NOW_NS = int(_NOW.timestamp()) * _S


def _read(value: object) -> int:
    return moment_ns(value, "--since", now_ns=lambda: _NOW_NS, zone=_BERLIN)


def _berlin(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=_BERLIN).timestamp()) * _S  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "ago_s"),
    [
        ("now", 0),
        ("5m", 300),
        ("-5m", 300),
        ("5 min", 300),
        ("5m ago", 300),
        ("5 minutes ago", 300),
        ("5 MINUTES AGO", 300),
        ("  5   minutes  ago ", 300),
        ("0m", 0),
        ("30s", 30),
        ("90 seconds", 90),
        ("1 hour ago", 3600),
        ("an hour ago", 3600),
        ("a minute", 60),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1 hour and 30 minutes ago", 5400),
        ("1 hour, 30 minutes", 5400),
        ("2d", 2 * 86400),
        ("1 week ago", 7 * 86400),
    ],
)
def test_a_relative_time_is_before_now(text: str, ago_s: int) -> None:
    assert _read(text) == _NOW_NS - ago_s * _S


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("today", (2026, 11, 24)),
        ("Today", (2026, 11, 24)),
        ("yesterday", (2026, 11, 23)),
        ("14:30", (2026, 11, 24, 14, 30)),
        ("9:05", (2026, 11, 24, 9, 5)),
        ("14:30:05", (2026, 11, 24, 14, 30, 5)),
        ("yesterday 14:30", (2026, 11, 23, 14, 30)),
        ("today 09:00", (2026, 11, 24, 9)),
        ("2026-11-24", (2026, 11, 24)),
        ("20261124", (2026, 11, 24)),
        ("2026-07-01 10:00", (2026, 7, 1, 10)),
        ("2026-07-01T10:00:30", (2026, 7, 1, 10, 0, 30)),
        ("20260701T100030", (2026, 7, 1, 10, 0, 30)),
        ("2026-W48-2", (2026, 11, 24)),
    ],
)
def test_a_time_of_the_day_is_local(text: str, wanted: tuple[int, ...]) -> None:
    assert _read(text) == _berlin(*wanted)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T09:30:00Z",
        "2026-11-24 09:30:00+00:00",
        "2026-11-24T10:30+01:00",
        "2026-11-24 09:30 UTC",
        "2026-11-24 04:30 America/New_York",
        "09:30 UTC",
        "today 09:30 UTC",
    ],
)
def test_a_text_can_contain_a_time_zone(text: str) -> None:
    assert _read(text) == int(datetime(2026, 11, 24, 9, 30, tzinfo=UTC).timestamp()) * _S


def test_midnight_before_a_change_to_summer_time_is_right() -> None:
    now = datetime(2026, 10, 25, 12, tzinfo=_BERLIN)  # 25 hours long, in winter time now
    found = moment_ns("today", now_ns=lambda: int(now.timestamp()) * _S, zone=_BERLIN)
    assert found == int(datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()) * _S


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_the_size_of_a_number_determines_its_unit(scale: int) -> None:
    for number in (1_795_489_012 * scale, str(1_795_489_012 * scale), 1_795_489_012.0 * scale):
        assert _read(number) == 1_795_489_012 * _S
    assert _read("1795489012.5") == 1_795_489_012_500_000_000
    assert _read(1_795_489_012_671_577_403) == 1_795_489_012_671_577_403
    assert _read("1795489012671577403") == 1_795_489_012_671_577_403
    assert (_read(0), _read("0")) == (0, 0)


def test_a_fraction_is_kept_to_the_nanosecond() -> None:
    whole = _berlin(2026, 11, 24, 10)
    assert _read("2026-11-24T10:00:00.123456789") == whole + 123_456_789
    assert _read("2026-11-24T10:00:00.5") == whole + 500_000_000
    assert _read("2026-11-24T09:00:00.1234567Z") == whole + 123_456_700


def test_datetime_objects_are_times() -> None:
    assert _read(datetime(2026, 11, 24, 10)) == _berlin(2026, 11, 24, 10)  # noqa: DTZ001
    east = timezone(timedelta(hours=5))
    assert _read(datetime(2026, 11, 24, 14, tzinfo=east)) == _berlin(2026, 11, 24, 10)
    assert _read(date(2026, 11, 24)) == _berlin(2026, 11, 24)
    assert _read(timedelta(minutes=5)) == _read(timedelta(minutes=-5)) == _NOW_NS - 300 * _S


def test_a_time_without_a_time_zone_is_in_that_of_the_system() -> None:
    assert moment_ns("2026-11-24T10:00") == int(datetime(2026, 11, 24, 10).timestamp()) * _S  # noqa: DTZ001
    assert moment_ns(datetime(2026, 11, 24, 10)) == moment_ns("2026-11-24 10:00")  # noqa: DTZ001


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "yesteryear",
            "5",
            "5x",
            "m",
            "-",
            "ago",
            "5m later",
            "+5m",
            "5m 3",
            "x5m",
        ),
        *("25:00", "14:60", "2026-13-01", "2026-11-31", "tomorrow", "yesterday 25:00", "today x"),
        *("10:00 Europe/Nowhere", "10:00 ../etc/passwd", "10:00 UTC UTC", "12345", "1e9"),
        *(5, 300, -5, 2.5, float("nan"), float("inf"), True, None, b"5m", [], {}, Decimal(5)),
    ],
)
def test_an_invalid_moment_is_an_error_that_names_the_option(value: object) -> None:
    with pytest.raises(MomentError) as caught:
        _read(value)
    assert isinstance(caught.value, OptionError)
    assert isinstance(caught.value, TypeError)
    assert (caught.value.option, caught.value.value) == ("--since", value)
    assert str(caught.value).startswith("--since=")
    assert EXAMPLES in str(caught.value)


@given(st.text(max_size=20) | st.text("0123456789:-T +Z.mhds ago", max_size=20))
def test_every_invalid_text_raises_a_moment_error(text: str) -> None:
    with contextlib.suppress(MomentError):
        assert isinstance(_read(text), int)
