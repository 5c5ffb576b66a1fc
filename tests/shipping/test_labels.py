from __future__ import annotations

import pytest

from aqltelemetry.shipping.labels import LabelParts, split

_KNOWN = {
    "/orders/{id} [GET]",
    "load",
    "/ws [GET] websocket",
    "/feed [GET] events",
    "a [b c]",
    "unmatched",
}


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("/orders/{id} [GET]", ("/orders/{id}", "GET", "", "request")),
        ("/orders/{id} [GET] 5xx", ("/orders/{id}", "GET", "5xx", "request")),
        ("/orders/{id} [GET] 4xx", ("/orders/{id}", "GET", "4xx", "request")),
        ("/orders/{id} [GET] disconnect", ("/orders/{id}", "GET", "disconnect", "request")),
        ("/orders/{id} [GET] ttfb", ("/orders/{id}", "GET", "ttfb", "request")),
        ("/ws [GET] websocket", ("/ws", "GET", "", "websocket")),
        ("/ws [GET] websocket 5xx", ("/ws", "GET", "5xx", "websocket")),
        ("/feed [GET] events", ("/feed", "GET", "", "events")),
        ("unmatched", ("unmatched", "", "", "request")),
        ("unmatched 4xx", ("unmatched", "", "4xx", "request")),
        ("unmatched websocket", ("unmatched", "", "", "websocket")),
        ("load", ("load", "", "", "block")),
        ("load failed", ("load", "", "failed", "block")),
        ("other failed", ("other failed", "", "", "block")),
        ("a [b c]", ("a [b c]", "", "", "block")),
        ("", ("", "", "", "block")),
    ],
)
def test_a_label_is_split_into_its_parts(label: str, parts: tuple[str, str, str, str]) -> None:
    assert split(label, _KNOWN | {label}) == LabelParts(label, *parts)
