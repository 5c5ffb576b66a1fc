"""Splits a label into the series that it belongs to and an outcome.

A request or block that fails is recorded twice: under its label, as every one, and under the
label followed by its outcome, `/orders [POST] 5xx`. So the first series counts all, and the
second one counts the failures among them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from aqltelemetry.observation import (
    FAILED,
    FIRST_BYTE,
    MAX_LABEL_BYTES,
    REQUEST_OUTCOMES,
    failed_label,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A label that is shortened is cut at a character, so that it has at most a few bytes less.
_SHORTEST_CHANGE = len(FAILED) + 1 + 4
_CLIENT_ERROR, _SERVER_ERROR, _DISCONNECT = REQUEST_OUTCOMES
OUTCOME_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        _CLIENT_ERROR: "errors_4xx",
        _SERVER_ERROR: "errors_5xx",
        _DISCONNECT: "disconnects",
        FAILED: "failures",
    }
)
"""The column of a summary that counts each outcome."""
OUTCOMES = tuple(OUTCOME_COLUMNS)
"""The outcomes, as they follow a label."""


def split(label: str, known_labels: Collection[str]) -> tuple[str, str | None]:
    """Split a label into its base and its outcome.

    Args:
        label: The label of a series of durations.
        known_labels: All labels of durations.

    Returns:
        The label without its outcome, and the outcome, one of `OUTCOMES`. The outcome is None
        for a label that has none: it ends otherwise, or its base does not occur, or its base is
        itself an outcome of another label.

    Example:
        >>> split("/a [GET] 5xx", {"/a [GET]", "/a [GET] 5xx"})
        ('/a [GET]', '5xx')
        >>> split("/a [GET] ttfb", {"/a [GET]", "/a [GET] ttfb"})
        ('/a [GET] ttfb', None)
    """
    base, space, word = label.rpartition(" ")
    if not space or word not in OUTCOME_COLUMNS:
        return label, None
    if word == FAILED and base not in known_labels and _is_long(label):
        # Long labels are shortened to make room for the outcome.
        long = (each for each in known_labels if _is_long(each) and failed_label(each) == label)
        base = next(long, base)
    if base not in known_labels or split(base, known_labels)[1]:
        return label, None
    return base, word


def with_outcomes(labels: Iterable[str]) -> set[str]:
    """Return labels, and those that their outcomes would have."""
    wanted = {*labels}
    requests = {f"{label} {word}" for label in wanted for word in REQUEST_OUTCOMES}
    return wanted | requests | {failed_label(label) for label in wanted}


def _is_long(label: str) -> bool:
    return len(label.encode(errors="replace")) > MAX_LABEL_BYTES - _SHORTEST_CHANGE


def total_of(label: str, known_labels: Collection[str]) -> str | None:
    """Return the label of the request whose time to the first byte a series contains.

    None for any other series, and if the label of the request does not occur.
    """
    total, space, word = label.rpartition(" ")
    return total if space and word == FIRST_BYTE and total in known_labels else None


class Roles(NamedTuple):
    """The role of each of n labels, as arrays of length n.

    `bases` are indexes of labels: of the base of an outcome, or else of the label itself.
    `outcomes` are indexes into `OUTCOMES`, -1 for a label that is none. `totals` are indexes of
    the labels of the requests whose times to the first byte a label contains, else -1.
    """

    bases: npt.NDArray[np.int64]
    outcomes: npt.NDArray[np.int8]
    totals: npt.NDArray[np.int64]

    @property
    def is_part(self) -> npt.NDArray[np.bool_]:
        """Whether each label's observations are parts of others: outcomes, first bytes."""
        return (self.outcomes >= 0) | (self.totals >= 0)


def roles(labels: Sequence[str]) -> Roles:
    """Return the role of each label of the durations."""
    import numpy as np  # noqa: PLC0415 - an extra, which splitting a label does not need

    number = {label: code for code, label in enumerate(labels)}
    found = [split(label, number) for label in labels]
    totals = [total_of(label, number) for label in labels]
    return Roles(
        np.array([number[base] for base, _ in found], np.int64),
        np.array([-1 if word is None else OUTCOMES.index(word) for _, word in found], np.int8),
        np.array([-1 if total is None else number[total] for total in totals], np.int64),
    )
