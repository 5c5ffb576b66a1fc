from __future__ import annotations

import pytest

from aqltelemetry.errors import OptionError
from aqltelemetry.views.serve.queries import DEFAULT_BINS, MAX_BINS, Window, window


def test_a_window_is_the_whole_recording_unless_it_is_given() -> None:
    assert window({}) == Window(None, None, DEFAULT_BINS)
    assert window({"begin": "", "end": "", "bins": ""}) == Window(None, None, DEFAULT_BINS)


def test_milliseconds_become_nanoseconds() -> None:
    query = {"begin": "1795866664000.5", "end": "1795866665000", "bins": "30"}
    assert window(query) == Window(1795866664000500000, 1795866665000000000, 30)


@pytest.mark.parametrize(
    "query",
    [
        *({"begin": bad} for bad in ("x", "nan", "inf", "-1", "1e400", "9223372036855", "1e30")),
        *({"end": bad} for bad in ("x", "nan", "-inf", "yesterday")),
        *({"bins": bad} for bad in ("0", "-1", str(MAX_BINS + 1), "1.5", "x", "²", "9" * 5000)),
        *({"begin": "2", "end": "2"}, {"begin": "3", "end": "2"}),
    ],
)
def test_bad_windows_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="must be"):
        window(query)
