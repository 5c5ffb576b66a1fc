from __future__ import annotations

import pytest

from aqltelemetry.autopsy.templates import Templates

_ROUTES = ["/", "/users/{id}", "/users/me", "/files/{path}", "/a/{b}/c", "/café/{name}"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("GET /", "/ [GET]"),
        ("GET /users/7", "/users/{id} [GET]"),
        ("PUT /users/7/", "/users/{id} [PUT]"),
        ("GET /users/me", "/users/me [GET]"),
        ("GET /users/7/orders", "unmatched [GET]"),
        ("GET /files/a/b/c", "/files/{path} [GET]"),
        ("GET /a/x/c", "/a/{b}/c [GET]"),
        ("GET /a/x/y/c", "unmatched [GET]"),
        ("GET /caf%C3%A9/x", "/café/{name} [GET]"),
        ("GET http://host:80/users/7", "/users/{id} [GET]"),
        ("GET /orders/3", "/orders/{n} [GET]"),
        ("GET /ws/3", "/ws/{n} [GET]"),
        ("GET /secret-token-123", "unmatched [GET]"),
        ("GET ", "/ [GET]"),
    ],
)
def test_a_request_gets_the_label_of_its_route(text: str, label: str) -> None:
    labels = ["/orders/{n} [GET]", "/ws/{n} [GET] websocket", "parse", "unmatched", "a block [X]"]
    assert Templates(_ROUTES, labels).label(text) == label


def test_a_path_is_never_shown() -> None:
    assert "secret" not in Templates([]).label("GET /secret/1")


def test_a_template_may_contain_what_is_special_in_an_expression() -> None:
    assert Templates(["/a.b/{x}+(y)"]).find("/a.b/1+(y)") == "/a.b/{x}+(y)"
    assert Templates(["/a.b/{x}"]).find("/aXb/1") is None
