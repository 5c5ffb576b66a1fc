from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from aqltelemetry.routes import asgi_template, wsgi_template

_MOUNT = SimpleNamespace(routes=[], path="/api/{tenant}")


def _flask(rule: str | None) -> dict[str, Any]:
    url_rule = None if rule is None else SimpleNamespace(rule=rule)
    return {"werkzeug.request": SimpleNamespace(url_rule=url_rule)}


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/users/<user>", "/users/{user}"),
        ("/users/<int:user>/<path:rest>", "/users/{user}/{rest}"),
        ("/version", "/version"),
        (None, None),
    ],
)
def test_flask_rules_are_templates(rule: str | None, template: str | None) -> None:
    assert wsgi_template(_flask(rule)) == template


def test_an_unknown_framework_has_no_routes() -> None:
    assert wsgi_template({"PATH_INFO": "/x"}) is None
    assert asgi_template({"path": "/x"}, "", 200) is None


@pytest.mark.parametrize(
    ("scope", "template"),
    [
        ({"path_template": "/users/{user}"}, "/users/{user}"),
        ({"route": SimpleNamespace(path_format="/users/{user}")}, "/users/{user}"),
        ({"route": SimpleNamespace(path="/users")}, "/users"),
        (
            {
                "route": SimpleNamespace(path="/items/{item}"),
                "root_path": "/outside/api/acme",
                "path_params": {"tenant": "acme", "item": "7"},
            },
            "/api/{tenant}/items/{item}",
        ),
    ],
)
def test_asgi_frameworks_leave_the_template_in_the_scope(
    scope: dict[str, Any], template: str
) -> None:
    root_path = "/outside" if "root_path" in scope else ""
    assert asgi_template(scope, root_path, 200) == template


@pytest.mark.parametrize(("status", "template"), [(200, "/api/{tenant}"), (404, None)])
def test_a_mount_is_a_template_unless_nothing_was_found(status: int, template: str | None) -> None:
    scope = {"route": _MOUNT, "root_path": "/api/acme", "path_params": {"tenant": "acme"}}
    assert asgi_template(scope, "", status) == template


_DJANGO = """
import json, sys
from django import urls
from aqltelemetry.routes import asgi_template, wsgi_template
unused = wsgi_template({"PATH_INFO": "/users/7"})
from django.conf import settings
view = lambda request, **parts: None
urlpatterns = [
    urls.path("", view),
    urls.path("gr\u00f6\u00dfe/<int:user>", view),
    urls.path("api/<slug:version>/", urls.include([urls.path("items/<int:item>/", view)])),
]
settings.configure(ROOT_URLCONF=__name__)
found = [unused]
for path in ("/", "", "/gr\u00f6\u00dfe/7", "/api/v2/items/7/", "/none"):
    found.append(wsgi_template({"PATH_INFO": path.encode().decode("latin-1")}))
    found.append(asgi_template({"path": "/root" + path, "root_path": "/root"}, "/root", 200))
json.dump(found, sys.stdout)
"""


def test_django_is_asked_for_the_route() -> None:
    """In a process of its own, since Django is configured once in a process."""
    command = [sys.executable, "-W", "error", "-c", _DJANGO]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [
        None,
        *("/", "/"),
        *("/", "/"),
        *("/gr\u00f6\u00dfe/{user}", "/gr\u00f6\u00dfe/{user}"),
        *("/api/{version}/items/{item}/", "/api/{version}/items/{item}/"),
        *(None, None),
    ]
