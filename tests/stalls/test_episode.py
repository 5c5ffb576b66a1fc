"""What a stall names is what was seen for half of its time or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aqltelemetry.stalls.episode import Episode, conclude
from aqltelemetry.stalls.evidence import Evidence, Look, Sample, Suspicion

_MS = 1_000_000
_RECEIVE = 45
_SOCKET = 0o140000


def _sample(at_ns: int) -> Sample:
    return Sample(at_ns, 0, 0, 0, 0, 0, 3, _RECEIVE, _SOCKET, 0, 0, 0, "S")


def _concluded(*seen: dict[str, Any]) -> Episode:
    """Return the stall in which each of these was seen for 10 ms."""
    looks: Sequence[Look] = [Look((at + 1) * 10 * _MS, 1, **each) for at, each in enumerate(seen)]
    end_ns = len(seen) * 10 * _MS
    suspicion = Suspicion(0, 0, end_ns, _sample(0), [_sample(each.at_ns) for each in looks])
    return conclude(Evidence(suspicion, [], looks, None), 0, {})


def test_the_route_is_that_of_half_of_the_time() -> None:
    first, second, none = {"route": "/a [GET]"}, {"route": "/b [GET]"}, {"route": ""}
    assert _concluded(first, first, second).route == "/a [GET]"
    assert _concluded(first, second, none).route == ""
    assert _concluded(first, none, none).route == ""


def test_blocks_are_in_their_order_and_without_short_ones() -> None:
    inner = {"blocks": ("request", "load", "parse")}
    outer = {"blocks": ("request",)}
    short = {"blocks": ("request", "load", "commit")}
    found = _concluded(outer, inner, inner, short)
    assert found.blocks == ["request", "load", "parse"]


def test_a_block_that_is_open_twice_is_named_once() -> None:
    assert _concluded({"blocks": ("walk", "walk", "read")}).blocks == ["walk", "read"]


def test_what_is_waited_on_is_what_was_seen_for_longest() -> None:
    found = _concluded({"waits_on": "socket to a:1"}, {"waits_on": "socket to b:2"}, {})
    assert found.waits_on == "socket to a:1"
    assert found._replace(waits_on="pipe").detail(1, "")["waits_on"] == "pipe"
    assert _concluded({}, {}).waits_on == ""
