"""Frameworks that store no route in the scope have templates, too."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import falcon.asgi
import pytest
import quart
from litestar import Litestar, Request, asgi, get
from litestar.static_files import create_static_files_router
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from aqltelemetry.hosts.asgi.frameworks import observe
from asgi_calls import scope_of, totals, twin


async def _ok(request: Any) -> PlainTextResponse:
    return PlainTextResponse("x")


def _quart() -> quart.Quart:
    app = quart.Quart("app")

    @app.get("/users/<int:user>")
    async def user(user: int) -> str:
        return f"{user}"

    @app.get("/broken/<x>")
    async def broken(x: str) -> str:
        raise ValueError(x)

    @app.websocket("/ws/<room>")
    async def room(room: str) -> None:
        await quart.websocket.close(1000)

    return app


@pytest.mark.parametrize("name", ["pure", "compiled"])
@pytest.mark.parametrize("prefix", ["", "/in/{tenant}"])
async def test_routes_of_quart_are_templates(name: str, prefix: str) -> None:
    app: Any = _quart()
    observe(app)
    if prefix:
        app = Starlette(routes=[Mount(prefix, app=app)])
    way = prefix.replace("{tenant}", "77")
    scopes = [
        *(scope_of(f"{way}{path}") for path in ("/users/1", "/users/2", "/none", "/users/x")),
        scope_of(f"{way}/broken/1"),
        scope_of(f"{way}/users/1", method="DELETE"),
        scope_of(f"{way}/ws/3", type="websocket"),
    ]
    assert await totals(twin(name), app, scopes) == {
        f"{prefix}/users/{{user}} [GET]": 2,
        f"{prefix}/broken/{{x}} [GET]": 1,
        f"{prefix}/ws/{{room}} [GET] websocket": 1,
        "unmatched": 3,
    }


class _Resource:
    async def on_get(self, req: Any, resp: Any, user: int) -> None:
        resp.text = f"{user}"

    async def on_websocket(self, req: Any, ws: Any, user: int) -> None:
        await ws.close()


@pytest.mark.parametrize("name", ["pure", "compiled"])
async def test_routes_of_falcon_are_templates(name: str) -> None:
    app = falcon.asgi.App()
    app.add_route("/users/{user:int}", _Resource())
    for _ in range(2):  # a second middleware adds nothing
        observe(app)
    assert len(app._middleware[1]) == 1
    scopes = [
        *(scope_of(path) for path in ("/users/1", "/users/2", "/users/x", "/none")),
        scope_of("/users/1", method="POST"),
        scope_of("/users/1", type="websocket"),
    ]
    assert await totals(twin(name), app, scopes) == {
        "/users/{user} [GET]": 2,
        "/users/{user} [POST]": 1,
        "/users/{user} [GET] websocket": 1,
        "unmatched": 2,
    }


@get("/users/{user:int}")
async def _litestar_user(request: Request[Any, Any, Any]) -> int:
    return int(request.path_params["user"])


@asgi("/raw", is_mount=True, copy_scope=True)
async def _litestar_raw(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("name", ["pure", "compiled"])
@pytest.mark.parametrize("prefix", ["", "/in/{tenant}"])
async def test_routes_of_litestar_are_templates(tmp_path: Path, name: str, prefix: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    static = create_static_files_router("/static", [tmp_path])
    app: Any = Litestar([_litestar_user, _litestar_raw, static], openapi_config=None)
    if prefix:
        app = Starlette(routes=[Mount(prefix, app=app)])
    way = prefix.replace("{tenant}", "77")
    paths = ("/users/1", "/users/2", "/static/a.txt", "/static/none", "/raw/x/y", "/none")
    assert await totals(twin(name), app, [scope_of(f"{way}{path}") for path in paths]) == {
        f"{prefix}/users/{{user}} [GET]": 2,
        f"{prefix}/static/{{file_path}} [GET]": 2,
        f"{prefix}/raw/{{path}} [GET]": 1,
        "unmatched": 1,
    }


async def test_starlette_in_litestar_has_the_path_of_both() -> None:
    inner = Starlette(routes=[Mount("/m/{x}", routes=[Route("/y/{z}", _ok)])])

    @asgi("/sub", is_mount=True, copy_scope=False)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = scope["path"].rstrip("/")
        await inner(scope, receive, send)

    app = Litestar([mounted], openapi_config=None)
    paths = ("/sub/m/1/y/2", "/sub/none")
    assert await totals(twin("pure"), app, [scope_of(path) for path in paths]) == {
        "/sub/m/{x}/y/{z} [GET]": 1,
        "unmatched": 1,
    }


_SANIC = """
import asyncio, json, sys
from sanic import Sanic, text
from aqltelemetry.hosts.asgi.frameworks import observe
from asgi_calls import scope_of, totals, twin

app = Sanic("app")
app.config.MOTD = False

@app.get("/users/<user:int>/<rest:path>")
async def user(request, user, rest):
    return text("x")

@app.get("/re/<name:(?P<name>[a-z]{3})>")
async def named(request, name):
    return text("x")

@app.websocket("/ws/<room>")
async def room(request, ws, room):
    await ws.close()

async def main():
    observe(app)
    started, over = asyncio.Event(), asyncio.Event()
    messages = [{"type": "lifespan.startup"}]
    async def receive():
        if messages:
            return messages.pop()
        await over.wait()
        return {"type": "lifespan.shutdown"}
    async def send(message):
        started.set()
    lifespan = asyncio.ensure_future(app({"type": "lifespan"}, receive, send))
    await started.wait()
    scopes = [scope_of(p) for p in ("/users/7/a/b", "/users/8/c", "/re/abc", "/none", "/re/abcd")]
    scopes.append(scope_of("/ws/3", type="websocket"))
    found = await totals(twin("pure"), app, scopes)
    over.set()
    await lifespan
    json.dump(found, sys.stdout)

asyncio.run(main())
"""


def test_routes_of_sanic_are_templates() -> None:
    """In its own process, since Sanic keeps a registry of all applications of a process."""
    assert _run(_SANIC) == {
        "/users/{user}/{rest} [GET]": 2,
        "/re/{name} [GET]": 1,
        "/ws/{room} [GET] websocket": 1,
        "unmatched": 2,
    }


_DJANGO = """
import asyncio, json, sys, types
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path, re_path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from aqltelemetry.hosts.asgi.frameworks import observe
from asgi_calls import scope_of, totals, twin

async def view(request, **parts):
    return HttpResponse("x")

def in_a_thread(request, *parts, **named):
    return HttpResponse("x")

def broken(request, x):
    raise ValueError(x)

def by_tenant(get_response):
    def middleware(request):
        if request.headers["host"] == "tenant":
            request.urlconf = "tenant_urls"
        return get_response(request)
    return middleware

def module(name, urls):
    made = sys.modules[name] = types.ModuleType(name)
    made.urlpatterns = urls

settings.configure(
    ROOT_URLCONF="main_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None,
    MIDDLEWARE=["__main__.by_tenant", "django.middleware.locale.LocaleMiddleware"],
    LANGUAGES=[("en", "English"), ("de", "Deutsch")], LANGUAGE_CODE="en",
)
module("tenant_urls", [path("tenant/<int:x>/", view)])
module("main_urls", [
    re_path(r"^archive/(?P<year>[0-9]{4})/$", view),
    path("users/<int:user>", in_a_thread),
    path("broken/<x>", broken),
    *i18n_patterns(path("about/<int:x>/", view), re_path(r"^re/(\\d+)/$", in_a_thread)),
])

async def main(name, prefix):
    django = get_asgi_application()
    observe(django)
    app = django
    if prefix:
        app = Starlette(routes=[Mount(prefix, app=django), Route("/new/{x}", ok)])
    way = prefix.replace("{t}", "77")
    paths = ("/archive/1999/", "/users/3", "/broken/7", "/de/about/3/", "/en/about/3/",
             "/de/re/3/", "/none", "/fr/about/3/")
    scopes = [scope_of(way + path) for path in paths]
    scopes += [scope_of(way + path, headers=[(b"host", b"tenant")])
               for path in ("/tenant/7/", "/users/3")]
    scopes += [scope_of("/root" + way + "/users/3", root_path="/root")]
    json.dump(await totals(twin(name), app, scopes), sys.stdout)

async def ok(request):
    return PlainTextResponse("x")

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["pure", "compiled"])
@pytest.mark.parametrize("prefix", ["", "/in/{t}"])
def test_routes_of_django_are_templates_by_urlconf_and_language(name: str, prefix: str) -> None:
    """In its own process, since Django is configured once in a process."""
    assert _run(_DJANGO, name, prefix) == {
        f"{prefix}/archive/{{year}}/ [GET]": 1,
        f"{prefix}/users/{{user}} [GET]": 2,
        f"{prefix}/broken/{{x}} [GET]": 1,
        f"{prefix}/de/about/{{x}}/ [GET]": 1,
        f"{prefix}/en/about/{{x}}/ [GET]": 1,
        f"{prefix}/de/re/{{var}}/ [GET]": 1,
        f"{prefix}/tenant/{{x}}/ [GET]": 1,
        "unmatched": 3,
    }


def _run(program: str, *arguments: str) -> Any:
    paths = [str(Path(__file__).parent.parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(paths)},
    )
    return json.loads(done.stdout)


class _Broken:
    @property
    def app(self) -> object:
        raise ValueError("no way")


def test_an_application_that_can_not_be_observed_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    observe(_Broken())
    assert "can't be observed" in caplog.text


def test_an_object_that_is_no_application_is_ignored() -> None:
    looped: Any = type("Looped", (), {})()
    looped.app = looped
    for app in (None, 7, looped, asyncio):
        observe(app)
