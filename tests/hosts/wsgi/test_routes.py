"""Templates of the routes of WSGI applications, with real frameworks and mounts."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import bottle  # type: ignore[import-untyped]
import falcon
import flask
import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Request

from aqltelemetry.hosts.labels import safe_template
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.hosts.wsgi.mounts import MountTree
from aqltelemetry.hosts.wsgi.routes import (
    WsgiRoutes,
    bottle_template,
    flask_template,
    pyramid_template,
    wsgi_template,
)
from twinned import recorded


def _timed(twin: ModuleType, app: Any) -> Any:
    routes = WsgiRoutes(app)
    template = safe_template(routes.template)
    made = twin.RecordedApplication(app, template, InFlight(), with_ttfb=False, by_rule=True)
    made.routes = routes
    return made


def _call(app: Any, path: str, **environ: Any) -> None:
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    body = app(environ, lambda *_: lambda _: None)
    try:
        for _ in body:
            pass
    finally:
        if hasattr(body, "close"):
            body.close()


def _labels(twin: ModuleType, app: Any, *paths: str, **environ: Any) -> dict[str, int]:
    """Return the recorded labels without methods and results."""
    timed = _timed(twin, app)
    with recorded() as found:
        for path in paths:
            _call(timed, path, **environ)
    return {
        label.removesuffix(" [GET]"): count
        for label, count in found
        if not label.endswith(("4xx", "5xx", "disconnect"))
    }


def _flask(name: str = "items", **options: Any) -> flask.Flask:
    app = flask.Flask(name, **options)
    app.add_url_rule("/items/<int:i>", "items", lambda i: f"{i}")
    return app


def _plain(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"x"]


_ITEMS = ("/items/1", "/a/items/1", "/b/items/2", "/b/items/3", "/b/none", "/c/items/1")
_EXPECTED = {"/items/{i}": 1, "/a/items/{i}": 1, "/b/items/{i}": 2, "unmatched": 2}


class _Layer:
    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


class _Named:
    """A widespread middleware that sets SCRIPT_NAME from a header."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        environ["SCRIPT_NAME"] = environ.get("HTTP_X_SCRIPT_NAME", "")
        return self.app(environ, start_response)


def _closure(app: Any) -> Any:
    other = [len]

    def middleware(environ: Any, start_response: Any) -> Any:
        assert other
        return app(environ, start_response)

    return middleware


def _by_wsgi_app(app: Any) -> Any:
    holder = _flask("holder")
    holder.wsgi_app = app  # type: ignore[method-assign]
    return holder


_AROUND: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda app: app,
    "an object": _Layer,
    "two objects": lambda app: _Layer(_closure(_Layer(app))),
    "a function": _closure,
    "a method": lambda app: _Layer(app).__call__,
    "ProxyFix": lambda app: ProxyFix(app, x_prefix=1),
    "a header": _Named,
    "a Flask's wsgi_app": _by_wsgi_app,
}


@pytest.mark.parametrize("around", _AROUND)
def test_each_application_below_a_dispatcher_has_its_own_labels(
    twin: ModuleType, around: str
) -> None:
    tree = DispatcherMiddleware(_flask("c"), {"/a": _flask("a"), "/b": _Layer(_flask("b"))})
    assert _labels(twin, _AROUND[around](tree), *_ITEMS) == _EXPECTED


def test_dispatchers_may_be_nested_and_an_application_mounted_twice(twin: ModuleType) -> None:
    twice = _flask()
    inner = DispatcherMiddleware(twice, {"/deep": twice, "/deep/er": _flask("deeper")})
    tree = DispatcherMiddleware(_plain, {"/v1": inner, "/v2": _closure(twice)})
    paths = ("/v1/items/1", "/v1/deep/items/1", "/v1/deep/er/items/1", "/v2/items/1", "/items/1")
    assert _labels(twin, tree, *paths, *paths) == {
        "/v1/items/{i}": 2,
        "/v1/deep/items/{i}": 2,
        "/v1/deep/er/items/{i}": 2,
        "/v2/items/{i}": 2,
        "unmatched": 2,
    }


def test_a_dispatcher_inside_an_application_is_found(twin: ModuleType) -> None:
    app = _flask("outer")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/b": _flask("b")})  # type: ignore[method-assign]
    assert _labels(twin, app, "/items/1", "/b/items/1") == {"/items/{i}": 1, "/b/items/{i}": 1}


def test_an_application_that_is_mounted_later_is_found(twin: ModuleType) -> None:
    tree = DispatcherMiddleware(_flask("a"), {})
    timed = _timed(twin, tree)
    with recorded() as found:
        _call(timed, "/items/1")
        tree.mounts["/b"] = _flask("b")
        _call(timed, "/b/items/1")
    assert found == [("/b/items/{i} [GET]", 1), ("/items/{i} [GET]", 1)]


@pytest.mark.parametrize("around", ["nothing", "ProxyFix", "a header"])
@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_thousand_spellings_of_a_prefix_make_no_label(
    twin: ModuleType, around: str, is_mounted: bool
) -> None:
    tree: Any = _flask()
    if is_mounted:
        tree = DispatcherMiddleware(_plain, {"/api": tree})
    timed = _timed(twin, _AROUND[around](tree))
    with recorded() as found:
        for number in range(1_000):
            prefix = f"/p{number}/api"
            headers = {"HTTP_X_FORWARDED_PREFIX": prefix, "HTTP_X_SCRIPT_NAME": prefix}
            _call(timed, "/api" * is_mounted + "/items/1", SCRIPT_NAME=prefix, **headers)
    assert found == [("/api" * is_mounted + "/items/{i} [GET]", 1_000)]


def test_an_exception_out_of_a_mounted_flask_has_its_route(twin: ModuleType) -> None:
    app = _flask()
    app.testing = True
    app.add_url_rule("/broken/<name>", "broken", view_func=lambda name: str(1 // 0))
    for tree in (DispatcherMiddleware(_plain, {"/a": _Layer(app)}), _Layer(app)):
        path = "/a" * isinstance(tree, DispatcherMiddleware) + "/broken/x"
        timed = _timed(twin, tree)
        with recorded() as found, pytest.raises(ZeroDivisionError):
            _call(timed, path)
        label = path.replace("x", "{name}") + " [GET]"
        assert found == [(label, 1), (f"{label} 5xx", 1)]


def test_an_application_root_is_the_prefix_where_no_mount_is_found(twin: ModuleType) -> None:
    apps = [_flask(name) for name in ("one", "two")]
    for app in apps:
        app.config["APPLICATION_ROOT"] = f"/{app.name}"
    for app in apps:
        assert _labels(twin, app, "/items/1", "/items/2") == {f"/{app.name}/items/{{i}}": 2}
    tree = DispatcherMiddleware(_plain, {"/seen": apps[0]})
    assert _labels(twin, tree, "/seen/items/1") == {"/seen/items/{i}": 1}


def test_hosts_of_flask_are_part_of_the_label_as_they_are_written(twin: ModuleType) -> None:
    app = flask.Flask("hosts", host_matching=True, static_host="static.example.com")
    for host in ("a.example.com", "<tenant>.example.org"):
        view = lambda **_: "x"  # noqa: E731
        app.add_url_rule("/items/<int:i>", endpoint=host, host=host, view_func=view)
    timed = _timed(twin, app)
    with recorded() as found:
        for host in ("a.example.com", "x.example.org", "y.example.org", "other"):
            _call(timed, "/items/1", HTTP_HOST=host)
    assert found[:2] == [
        ("a.example.com/items/{i} [GET]", 1),
        ("unmatched", 1),
    ]
    assert found[-1] == ("{tenant}.example.org/items/{i} [GET]", 2)


def test_subdomains_of_flask_are_part_of_the_label(twin: ModuleType) -> None:
    app = flask.Flask("subdomains", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    for subdomain in ("api", "", "<tenant>"):
        view = lambda **_: "x"  # noqa: E731
        app.add_url_rule("/items", endpoint=subdomain + "x", subdomain=subdomain, view_func=view)
    timed = _timed(twin, app)
    with recorded() as found:
        for host in ("api.example.com", "example.com", "x.example.com", "y.example.com"):
            _call(timed, "/items", HTTP_HOST=host)
    assert found == [
        ("/items [GET]", 1),
        ("api.example.com/items [GET]", 1),
        ("{tenant}.example.com/items [GET]", 2),
    ]


def test_blueprints_and_static_files_of_flask_are_routes(twin: ModuleType) -> None:
    app = flask.Flask("blueprints", static_folder="/none", static_url_path="/static")
    blueprint = flask.Blueprint("b", "b", url_prefix="/b/<tenant>")
    blueprint.add_url_rule("/items/<int:i>", view_func=lambda **_: "x")
    app.register_blueprint(blueprint, url_prefix="/outer/<tenant>")
    paths = ("/outer/x/items/1", "/static/a.css", "/static/b/c.css")
    assert _labels(twin, app, *paths) == {
        "/outer/{tenant}/items/{i}": 1,
        "/static/{filename}": 2,
    }


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/users/<user>", "/users/{user}"),
        ("/users/<int:user>/<path:rest>", "/users/{user}/{rest}"),
        ("/<int(fixed_digits=4):year>", "/{year}"),
        ('/<any("a:b", "c>d"):kind>/x', "/{kind}/x"),
        ("/version", "/version"),
    ],
)
def test_flask_rules_are_templates(rule: str, template: str) -> None:
    assert flask_template(SimpleNamespace(rule=rule)) == template
    environ = {"werkzeug.request": SimpleNamespace(url_rule=SimpleNamespace(rule=rule))}
    assert wsgi_template(environ) == template


def test_a_request_object_of_a_middleware_is_not_mistaken_for_flasks(twin: ModuleType) -> None:
    def authenticated(environ: Any, start_response: Any) -> Any:
        assert Request(environ).path
        return app(environ, start_response)

    app = bottle.Bottle()
    app.route("/users/<name>", callback=lambda name: name)
    assert _labels(twin, authenticated, "/users/x") == {"/users/{name}": 1}


def test_the_route_of_an_application_that_did_not_answer_is_ignored(twin: ModuleType) -> None:
    """Such as an application that was tried first: the last one responds."""
    first: Any = _flask()
    last = bottle.Bottle()
    first.add_url_rule("/<path:anything>", "anything", view_func=lambda anything: flask.abort(404))
    last.route("/users/<name>", callback=lambda name: name)

    def cascade(environ: Any, start_response: Any) -> Any:
        statuses: list[str] = []
        body = first(environ, lambda status, *_: statuses.append(status))
        if statuses != ["404 NOT FOUND"]:
            start_response(statuses[0], [])
            return body
        body.close()
        return last(environ, start_response)

    assert _labels(twin, cascade, "/users/x") == {"/users/{name}": 1}


def test_requests_to_an_unknown_framework_are_unmatched(twin: ModuleType) -> None:
    assert _labels(twin, _plain, "/x") == {"unmatched": 1}
    assert wsgi_template({"PATH_INFO": "/x"}) is None


def test_bottles_rules_are_the_labels(twin: ModuleType) -> None:
    app, inner = bottle.Bottle(), bottle.Bottle()
    app.route("/wiki/<page>/<number:int>", callback=lambda page, number: "x")
    inner.route("/items/<i:re:[0-9]+>", callback=lambda i: i)
    app.mount("/in/", inner)
    app.mount("/flask/", _flask())
    paths = ("/wiki/a/1", "/wiki/b/2", "/in/items/1", "/none", "/flask/items/1")
    assert _labels(twin, app, *paths) == {
        "/wiki/{page}/{number}": 2,
        "/in/items/{i}": 1,
        "/flask/{path}": 1,
        "unmatched": 1,
    }


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/wiki/<page>", "/wiki/{page}"),
        ("/<id:int>/<rest:path>", "/{id}/{rest}"),
        (r"/<name:re:[a-z\>]+>.txt", "/{name}.txt"),
        ("/<:re:.*>", "/{path}"),
        ("/<:int>", "/{var}"),
        ("/old/:name#[a-z]+#/x", "/old/{name}/x"),
        ("/version", "/version"),
    ],
)
def test_bottle_rules_are_templates(rule: str, template: str) -> None:
    assert bottle_template(rule) == template


class _Resource:
    def on_get(self, req: Any, resp: Any, **parts: Any) -> None:
        if parts.get("user") == 13:
            raise falcon.HTTPNotFound


def test_falcons_templates_are_the_labels_below_a_dispatcher_too(twin: ModuleType) -> None:
    app = falcon.App()
    app.add_route("/users/{user:int}", _Resource())
    app.add_route("/version", _Resource())
    paths = ("/users/1", "/users/2", "/users/13", "/version", "/none")
    expected = {"/users/{user}": 3, "/version": 1, "unmatched": 1}
    assert _labels(twin, app, *paths) == expected
    tree = DispatcherMiddleware(_plain, {"/f": _Layer(app)})
    found = _labels(twin, tree, *(f"/f{path}" for path in paths))
    assert found == {"/f/users/{user}": 3, "/f/version": 1, "unmatched": 1}


def _pyramid() -> Any:
    # Untyped.
    Configurator = importlib.import_module("pyramid.config").Configurator
    Response = importlib.import_module("pyramid.response").Response

    class Root(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name != "folder":
                raise KeyError(name)
            return Root()

    config = Configurator(root_factory=lambda request: Root())
    config.add_route("user", r"/users/{id:\d{1,4}}")
    config.add_route("rest", "rest/*subpath")
    for route in ("user", "rest"):
        config.add_view(lambda request: Response("x"), route_name=route)
    config.add_view(lambda context, request: Response("x"), context=Root, name="edit")
    config.add_notfound_view(lambda request: Response("none", status=200))
    return config.make_wsgi_app()


@pytest.mark.filterwarnings("ignore")
def test_pyramids_patterns_and_names_of_views_are_the_labels(twin: ModuleType) -> None:
    """Even where it has its own page for unknown paths, which are the client's text."""
    paths = ("/users/1", "/users/22", "/rest/a/b", "/folder/edit", "/folder/folder/edit")
    unmatched = [f"/folder/{number}" for number in range(100)]
    assert _labels(twin, _pyramid(), *paths, "/", *unmatched) == {
        "/users/{id}": 2,
        "/rest/{subpath}": 1,
        "/{traversal}/edit": 2,
        "unmatched": 101,
    }


@pytest.mark.parametrize(
    ("pattern", "template"),
    [
        ("/users/{id}", "/users/{id}"),
        ("users/{id}/*rest", "/users/{id}/{rest}"),
        (r"/{year:\d{4}}/{month:\d\d}", "/{year}/{month}"),
        ("/:old/x", "/{old}/x"),
        ("", "/"),
    ],
)
def test_pyramid_patterns_are_templates(pattern: str, template: str) -> None:
    assert pyramid_template(pattern) == template


def test_a_tree_that_contains_itself_or_fails_stops_no_request() -> None:
    loop = _Layer(None)
    loop.app = loop
    tree = DispatcherMiddleware(loop, {})
    tree.mounts["/a"] = tree
    assert MountTree(tree).find("/a" * 100).prefix
    assert MountTree(tree).applications()

    class Broken:
        app = _plain

        @property
        def mounts(self) -> Any:
            raise ValueError

    assert MountTree(Broken()).find_safely({}).prefix == ""


_DJANGO = r"""
import json, sys
from wsgiref.util import setup_testing_defaults
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import include, path, re_path
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request
from aqltelemetry import sync, wsgi
from aqltelemetry.hosts.labels import RequestLabels

def view(request, **parts):
    return HttpResponse("x")
def other_urls(get_response):
    def middleware(request):
        if "other" in request.GET:
            request.urlconf = "other"
        return get_response(request)
    return middleware
other = type(sys)("other")
other.urlpatterns = [path("elsewhere/<int:n>", view)]
sys.modules["other"] = other
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", USE_I18N=True,
    LANGUAGES=[("en", "English"), ("de", "German")], FORCE_SCRIPT_NAME=FORCED,
    MIDDLEWARE=["django.middleware.locale.LocaleMiddleware", __name__ + ".other_urls"],
)
inner = ([path("items/<int:item>/", view, name="item")], "shop")
urlpatterns = [
    re_path(r"^archive/(?P<year>[0-9]{4})/$", view),
    path("größe/<int:user>", view),
    path("shop/<slug:tenant>/", include(inner, namespace="a")),
    *i18n_patterns(path("about/", view)),
]
django = get_wsgi_application()
def around(environ, start_response):
    Request(environ)
    return django(environ, start_response)
shop = Flask("shop")
shop.add_url_rule("/archive/<year>/", "archive", view_func=lambda year: year)
def plain(environ, start_response):
    start_response("200 OK", [])
    return [b""]
tree = DispatcherMiddleware(plain, {"/dj": around, "/shop": shop})
labels, of = [], RequestLabels.of
RequestLabels.of = lambda self, template, *rest: (
    labels.append(template) or of(self, template, *rest)
)
def call(app, path, **environ):
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    body = app(environ, lambda *arguments: None)
    list(body)
    getattr(body, "close", int)()
    return labels[-1]
tree, alone = [wsgi.TelemetryMiddleware(app, sys.argv[1]) for app in (tree, around)]
paths = ["/archive/2026/", "/größe/7", "/shop/t/items/3/", "/en/about/", "/de/about/", "/none"]
found = {
    "alone": [call(alone, path) for path in paths],
    "mounted": [call(tree, "/dj" + path) for path in paths],
    "other": [call(alone, "/elsewhere/7", QUERY_STRING="other=1"), call(alone, "/elsewhere/7")],
    "flask": [call(tree, "/shop/archive/2026/"), call(tree, "/shop/none")],
    # Django has a route for it, and does not answer.
    "plain": call(tree, "/archive/2026/"),
}
sync.stop()
print(json.dumps(found))
"""


@pytest.mark.parametrize("forced", [None, "/forced"])
def test_djangos_routes_are_the_labels_next_to_other_applications(
    tmp_path: Any, forced: str | None
) -> None:
    """In its own process, since Django is configured once in a process."""
    program = _DJANGO.replace("FORCED", repr(forced))
    command = [sys.executable, "-c", program, str(tmp_path / "monitoring")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    expected = [
        *("/archive/{year}/", "/größe/{user}", "/shop/{tenant}/items/{item}/"),
        *("/en/about/", "/de/about/", None),
    ]
    assert json.loads(done.stdout) == {
        "alone": expected,
        "mounted": [each and f"/dj{each}" for each in expected],
        "other": ["/elsewhere/{n}", None],
        "flask": ["/shop/archive/{year}/", None],
        "plain": None,
    }
