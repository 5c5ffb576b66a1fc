"""Outcomes of requests and blocks are split off their labels."""

from __future__ import annotations

import pytest

from aqltelemetry.hosts.labels import RequestLabels
from aqltelemetry.observation import failed_label
from aqltelemetry.reading.outcomes import OUTCOME_COLUMNS, roles, split


@pytest.mark.parametrize("outcome", ["4xx", "5xx", "disconnect", "failed"])
def test_an_outcome_is_split_off_where_its_base_occurs(outcome: str) -> None:
    label = f"/a [GET] {outcome}"
    assert split(label, {"/a [GET]", label}) == ("/a [GET]", outcome)
    assert split(label, {label}) == (label, None)
    assert outcome in OUTCOME_COLUMNS


@pytest.mark.parametrize("label", ["/a [GET]", "/a [GET] ttfb", "x other", "failed", " failed", ""])
def test_any_other_label_has_no_outcome(label: str) -> None:
    assert split(label, {label, "/a [GET]", "x"}) == (label, None)


@pytest.mark.parametrize("label", ["x" * 199, "é" * 100, "y" * 194])
def test_the_label_of_a_failure_may_be_shortened(label: str) -> None:
    failed = failed_label(label)
    assert not failed.startswith(label)
    assert split(failed, {label, "x", failed}) == (label, "failed")
    assert split(failed, {"x", failed}) == (failed, None)


def test_a_word_alone_is_no_outcome_of_the_empty_label() -> None:
    assert split("failed", {"", "failed"}) == ("failed", None)
    assert roles(["", "x", "x ttfb", "ttfb"]).totals.tolist() == [-1, -1, 1, -1]


def test_an_empty_label_can_fail() -> None:
    assert split(" failed", {"", " failed"}) == ("", "failed")


def test_a_label_that_ends_like_an_outcome_can_fail_too() -> None:
    """No observation is lost: the base of an outcome is always a row."""
    labels = {"x", "x failed", "x failed failed", "x failed failed failed"}
    assert split("x failed", labels) == ("x", "failed")
    assert split("x failed failed", labels) == ("x failed failed", None)
    assert split("x failed failed failed", labels) == ("x failed failed", "failed")


def test_the_labels_of_hosts_have_these_outcomes() -> None:
    labels = list(RequestLabels().of("/a", "GET", " websocket"))
    found = roles(labels)
    assert [labels[base] for base in found.bases] == [labels[0], labels[1], *[labels[0]] * 3]
    assert found.outcomes.tolist() == [-1, -1, 0, 1, 2]
    assert found.totals.tolist() == [-1, 0, -1, -1, -1]
    assert found.is_part.tolist() == [False, True, True, True, True]
