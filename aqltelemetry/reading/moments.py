"""Parses times: relative, of the day, ISO 8601, or since the epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from numbers import Integral, Real
from zoneinfo import ZoneInfo

from aqltelemetry.errors import MomentError
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

EXAMPLES = (
    "5m, '1 hour ago', yesterday, 14:30, 2026-11-24, '2026-11-24 10:00', "
    "2026-11-24T10:00:00+01:00, 1795489012 (seconds or nanoseconds since the epoch)"
)
"""Times as text, an example of each kind."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?|an?\b)\s*([a-z]+)[\s,]*(?:and\s+)?")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_TIME_OF_DAY = re.compile(r"\d{1,2}:")
_FRACTION = re.compile(r"[.,](\d{6})(\d{1,3})(?!\d)")
# A smaller number is more probably something else, such as 5 minutes, than a time before March
# 1973. A larger number than each limit can't be seconds, milliseconds or microseconds.
_MIN_EPOCH_S = 10**8
_UNITS_OF_NUMBERS = ((10**11, NS_PER_S), (10**14, 10**6), (10**17, 10**3))


def moment_ns(
    value: object,
    option: str = "moment",
    *,
    now_ns: Callable[[], int] = epoch_ns,
    zone: tzinfo | None = None,
) -> int:
    """Return a time as nanoseconds since the epoch.

    `value` is one of

    - a text: `now`, `today` or `yesterday` (at midnight, or `yesterday 14:30`), a time of
      today such as `14:30`, a time before now (`5m`, `-5m`, `1h30m`, `1 hour ago`), ISO 8601,
      or a number;
    - an int or float: seconds, milliseconds, microseconds or nanoseconds since the epoch,
      depending on which gives a year between 1973 and 5138;
    - a datetime, or a date, which means its midnight;
    - a timedelta: a time before now, regardless of its sign.

    A time without a time zone is in `zone`, by default the system's. A text may contain one
    as `Z`, `+01:00`, `UTC` or `Europe/Berlin`.

    Raises MomentError, which is a ValueError and a TypeError and mentions `option`.
    """
    try:
        found = _moment_ns(value, now_ns, zone)
    except (ValueError, TypeError, OverflowError, OSError, KeyError):
        found = None
    if found is None:
        raise MomentError(option, value, f"must be a time, such as {EXAMPLES}")
    return found


def _moment_ns(value: object, now_ns: Callable[[], int], zone: tzinfo | None) -> int | None:
    if isinstance(value, str):
        return _Text(now_ns, zone).read(" ".join(value.split()))
    if isinstance(value, datetime):
        return _ns(value, zone)
    if isinstance(value, date):
        return _ns(datetime.combine(value, time()), zone)
    if isinstance(value, timedelta):
        return now_ns() - abs(value) // timedelta(microseconds=1) * 1000
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return _of_number(int(value) if isinstance(value, Integral) else float(value))


def _ns(moment: datetime, zone: tzinfo | None) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _of_number(value: float) -> int | None:
    if not math.isfinite(value):
        return None
    size = abs(value)
    if 0 < size < _MIN_EPOCH_S:
        return None
    for limit, unit_ns in _UNITS_OF_NUMBERS:
        if size < limit:
            return int(value * unit_ns)
    return int(value)


class _Text:
    """Parses a time as text; methods return None for a text of another kind."""

    def __init__(self, now_ns: Callable[[], int], zone: tzinfo | None) -> None:
        self._now_ns = now_ns
        self._zone = zone

    def read(self, text: str) -> int | None:
        """Return the time; raises ValueError or returns None if it is not a time."""
        if _NUMBER.fullmatch(text) and not _is_date(text):
            return _of_number(float(text) if "." in text else int(text))
        ago_ns = self._before_now(text.lower())
        return self._on_the_clock(text) if ago_ns is None else self._now_ns() - ago_ns

    def _before_now(self, text: str) -> int | None:
        if text == "now":
            return 0
        text = text.removesuffix("ago").removeprefix("-").strip()
        total_ns, end = 0, 0
        for amount in _AMOUNT.finditer(text):
            unit_s = _UNITS_S.get(amount[2])
            if unit_s is None or amount.start() != end:
                return None
            number = 1.0 if amount[1].startswith("a") else float(amount[1])
            total_ns += int(number * unit_s * NS_PER_S)
            end = amount.end()
        return total_ns if 0 < end == len(text) else None

    def _on_the_clock(self, text: str) -> int:
        text, zone = _without_zone(text, self._zone)
        day, _, rest = text.partition(" ")
        now = datetime.fromtimestamp(self._now_ns() / NS_PER_S, UTC).astimezone(zone)
        days_ago = {"today": 0, "yesterday": 1}.get(day.lower())
        if _TIME_OF_DAY.match(text):
            days_ago, rest = 0, text
        if days_ago is None:
            return _ns(datetime.fromisoformat(text), zone) + _beyond_us(text)
        of_day = time.fromisoformat(rest.zfill(len("00:00"))) if rest else time()
        moment = datetime.combine(now.date() - timedelta(days=days_ago), of_day)
        return _ns(moment, zone)


def _without_zone(text: str, zone: tzinfo | None) -> tuple[str, tzinfo | None]:
    """Split off the name of a time zone, as in `14:30 UTC` or `10:00 Europe/Berlin`."""
    rest, _, name = text.rpartition(" ")
    if rest and (name.upper() in {"UTC", "GMT", "Z"}):
        return rest, UTC
    if rest and "/" in name:
        return rest, ZoneInfo(name)
    return text, zone


def _is_date(text: str) -> bool:
    """Return whether eight digits are a date, as in ISO 8601's basic format."""
    return len(text) == 8 and text.isdigit() and "19700101" <= text < "21000101"  # noqa: PLR2004


def _beyond_us(text: str) -> int:
    """Return the nanoseconds below a microsecond, which datetime does not have."""
    fraction = _FRACTION.search(text)
    return int(fraction[2].ljust(3, "0")) if fraction else 0
