"""Groups of values are the same with and without the extension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.reading.summaries import groups
from aqltelemetry.reading.summaries.groups import Groups, stable_order

_COMPILED = groups.compiled
_KEYS = st.one_of(st.integers(-2, 5), st.integers(-2, 70_000), st.integers(-2, 2**40))
_PAIRS = st.lists(st.tuples(_KEYS, st.floats(allow_infinity=False)), max_size=60)


@given(_PAIRS)
def test_the_extension_groups_as_numpy_does(pairs: list[tuple[int, float]]) -> None:
    keys = np.array([key for key, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], np.float64)
    found = []
    for compiled in (_COMPILED, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(groups, "compiled", compiled)
            one = Groups(keys, values)
            figures: list[Any] = [one.keys, one.counts, one.first(), one.last(), one.min()]
            found.append([*figures, one.max(), one.sum(), one.quantiles([0, 0.3, 0.99, 1])])
    for ours, others in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, others)
    expected = sorted({key for key, _ in pairs if key >= 0})
    assert found[0][0].tolist() == expected
    for place, key in enumerate(expected):
        own = values[keys == key]
        assert (found[0][1][place], found[0][2][place]) == pytest.approx(
            (len(own), own[0]), nan_ok=True
        )
        known = own[~np.isnan(own)]
        if len(known):
            with np.errstate(over="ignore", invalid="ignore"):
                wanted = np.quantile(known, [0, 0.3, 0.99, 1])
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(found[0][7][place][finite], wanted[finite])


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
def test_keys_of_each_integer_type_are_grouped(kind: Any) -> None:
    one = Groups(np.array([3, 0, -1, 3], kind), np.array([1.0, 2.0, 9.0, 4.0]))
    assert (one.keys.tolist(), one.counts.tolist()) == ([0, 3], [1, 2])
    assert one.sum().tolist() == [2.0, 5.0]


@given(st.lists(st.integers(0, 2**50)))
def test_the_order_is_that_of_a_stable_sort(keys: list[int]) -> None:
    order = stable_order(np.array(keys, np.int64))
    assert order.tolist() == sorted(range(len(keys)), key=keys.__getitem__)


def test_the_extension_is_there() -> None:
    """Without it, or if it is switched off, the other tests compare numpy with itself."""
    if _COMPILED is None:
        pytest.skip("the extensions are not built, or are switched off")
    with pytest.raises(ValueError, match="too large"):
        _COMPILED.sort_by_key(np.array([2]), np.zeros(1), np.zeros(2, np.int64), np.zeros(1))
