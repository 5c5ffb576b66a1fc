"""The time in bins is that of a plain addition."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from aqltelemetry.views.stalls.bins import blocked_s
from fakes import EPOCH_NS

_S = 1_000_000_000


def _stalls(spans: list[tuple[float, float, str]]) -> pd.DataFrame:
    begins = np.array([EPOCH_NS + round(begin_s * _S) for begin_s, _, _ in spans], np.int64)
    ends = np.array([EPOCH_NS + round(end_s * _S) for _, end_s, _ in spans], np.int64)
    return pd.DataFrame(
        {
            "begin": pd.DatetimeIndex(begins),
            "end": pd.DatetimeIndex(ends),
            "cause": pd.array([cause for *_, cause in spans], dtype="str"),
        }
    )


def test_the_seconds_in_each_bin_are_added_up_by_cause() -> None:
    chance = random.Random(4)
    spans = []
    for _ in range(80):
        begin_s = chance.uniform(-3, 23)
        spans.append((begin_s, begin_s + chance.uniform(0, 4), chance.choice("ab")))
    found = blocked_s(_stalls(spans), EPOCH_NS, _S // 2, 40)
    for cause in "ab":
        for at in range(40):
            begin_s, end_s = at / 2, at / 2 + 0.5
            expected = sum(
                max(min(to_s, end_s) - max(from_s, begin_s), 0)
                for from_s, to_s, of in spans
                if of == cause
            )
            assert found[cause][at] == pytest.approx(expected, abs=1e-6)


def test_causes_outside_of_the_bins_are_left_out_and_the_largest_comes_first() -> None:
    spans = [(-2.0, -1.0, "before"), (0.0, 0.1, "short"), (0.5, 0.9, "long"), (8.0, 9.0, "after")]
    assert [*blocked_s(_stalls(spans), EPOCH_NS, _S, 3)] == ["long", "short"]
