"""The matched routes of Starlette and FastAPI are the templates, whatever the path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette import routing
from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from aqltelemetry.hosts.asgi.route_tree import RouteTree
from asgi_calls import scope_of, totals, twin


async def _ok(request: Any) -> PlainTextResponse:
    return PlainTextResponse("x")


async def _raw(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body"})


async def _socket(websocket: Any) -> None:
    await websocket.accept()
    await websocket.close()


async def _app_of_old_routers(self: Any, scope: Any, receive: Any, send: Any) -> None:
    """Route like Starlette 0.40, which stores no route in the scope."""
    scope.setdefault("router", self)
    partial = None
    for route in self.routes:
        match, child_scope = route.matches(scope)
        if match == Match.FULL:
            scope.update(child_scope)
            await route.handle(scope, receive, send)
            return
        if match == Match.PARTIAL and partial is None:
            partial = (route, child_scope)
    if partial is not None:
        scope.update(partial[1])
        await partial[0].handle(scope, receive, send)
        return
    route_path = get_route_path(scope)
    if self.redirect_slashes and route_path != "/" and scope["type"] == "http":
        other = {**scope, "path": scope["path"].rstrip("/") + "/" * (route_path[-1:] != "/")}
        if any(route.matches(other)[0] != Match.NONE for route in self.routes):
            await RedirectResponse(other["path"])(scope, receive, send)
            return
    await self.default(scope, receive, send)


@pytest.fixture(params=["new", "old"])
def _routers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "old":
        # The middlewares of a router wrap its former `app`.
        monkeypatch.setattr(routing.Router, "app", _app_of_old_routers)


@pytest.fixture(params=["known", "asked"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the template by the route in the scope, or by matching the routes again."""
    if request.param == "asked":
        monkeypatch.setattr(RouteTree, "place_of", lambda self, key: None)


def _sub_application(**options: Any) -> FastAPI:
    sub = FastAPI(**options)

    @sub.get("/items/{item}")
    async def item(item: int) -> int:
        return item

    return sub


def _fastapi(static: Path) -> FastAPI:
    app, router, outer = FastAPI(), APIRouter(prefix="/orders"), APIRouter()

    @app.get("/users/{user}")
    async def user(user: str) -> str:
        return user

    @router.get("/{order}")
    async def order(order: int) -> int:
        return order

    @router.websocket("/ws/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await _socket(websocket)

    router.routes.append(Route("/plain/{p}", _ok))
    outer.include_router(router, prefix="/in")
    app.include_router(router)
    app.include_router(outer, prefix="/v2")
    sub = _sub_application()
    app.mount("/sub/{tenant}", sub)
    app.mount("/again", sub)
    app.mount("/static", StaticFiles(directory=static))
    app.mount("/raw", _raw)
    inner = Starlette(routes=[Route("/x/{y:int}", _ok)])
    app.mount("/cors", CORSMiddleware(inner, allow_origins=["*"]))
    app.router.routes.append(Host("{part}.example.org", app=Router([Route("/h/{x}", _ok)])))
    return app


_FASTAPI = {
    "/users/7": "/users/{user} [GET]",
    "/users/a%2Fb\u00fc": "/users/{user} [GET]",
    "/orders/1": "/orders/{order} [GET]",
    "/orders/x": "/orders/{order} [GET]",
    "/v2/in/orders/3": "/v2/in/orders/{order} [GET]",
    "/plain/7": "/plain/{p} [GET]",
    "/v2/in/plain/7": "/v2/in/plain/{p} [GET]",
    "/docs": "/docs [GET]",
    "/redoc": "/redoc [GET]",
    "/openapi.json": "/openapi.json [GET]",
    "/sub/users/items/3": "/sub/{tenant}/items/{item} [GET]",
    "/sub/acme/docs": "/sub/{tenant}/docs [GET]",
    "/again/items/again": "/again/items/{item} [GET]",
    "/static/a.txt": "/static/{path} [GET]",
    "/static/none": "/static/{path} [GET]",
    "/raw/anything/at/all": "/raw/{path} [GET]",
    "/cors/x/7": "/cors/x/{y} [GET]",
    "/none": "unmatched",
    "/sub/acme/none": "unmatched",
    "/users/7/": "unmatched",
    "/cors/x/seven": "unmatched",
}


def _starlette(static: Path) -> Starlette:
    users = Route("/users/{id}", _ok)
    deep = Mount("/deep/{a}", app=Router([Route("/{b:path}", _ok)]))
    hosted = Router([Route("/h/{x}", _ok), users])
    return Starlette(
        routes=[
            Route("/", _ok),
            Mount("/api", routes=[users]),
            Mount("/n/{num:int}", routes=[Route("/items", _ok), deep]),
            Mount("/fa", app=_fastapi(static)),
            Route("/u/\u00fc{x}", _ok, methods=["POST", "GET"]),
            WebSocketRoute("/ws/{room}", _socket),
            Host("api.example.org", app=hosted),
            Mount("", app=hosted),
        ]
    )


_STARLETTE = {
    "/": "/ [GET]",
    "/api/users/api": "/api/users/{id} [GET]",
    "/n/007/items": "/n/{num}/items [GET]",
    "/n/7/items": "/n/{num}/items [GET]",
    "/n/1/deep/2/3/4": "/n/{num}/deep/{a}/{b} [GET]",
    "/u/\u00fc7": "/u/\u00fc{x} [GET]",
    "/users/7": "/users/{id} [GET]",
    "/h/7": "/h/{x} [GET]",
    "/none": "unmatched",
    "/n/x/items": "unmatched",
    "/n/7/none": "unmatched",
    **{
        f"/fa{path}": label if label == "unmatched" else f"/fa{label}"
        for path, label in _FASTAPI.items()
    },
}
_APPLICATIONS = {"fastapi": (_fastapi, _FASTAPI), "starlette": (_starlette, _STARLETTE)}


@pytest.mark.usefixtures("_routers", "_way")
@pytest.mark.parametrize("name", ["pure", "compiled"])
@pytest.mark.parametrize("application", _APPLICATIONS)
@pytest.mark.parametrize("root_path", ["", "/root"])
async def test_the_routes_that_matched_are_the_template(
    tmp_path: Path, name: str, application: str, root_path: str
) -> None:
    (tmp_path / "a.txt").write_text("a")
    make, labels = _APPLICATIONS[application]
    paths = [*labels] * 2
    scopes = [scope_of(root_path + path, root_path=root_path) for path in paths]
    found = await totals(twin(name), make(tmp_path), scopes)
    assert found == Counter(labels[path] for path in paths)


@pytest.mark.usefixtures("_routers", "_way")
@pytest.mark.parametrize("name", ["pure", "compiled"])
async def test_hosts_websockets_and_methods_have_their_own_labels(
    tmp_path: Path, name: str
) -> None:
    scopes = [
        *(scope_of("/users/7", headers=[(b"host", b"api.example.org")]) for _ in range(2)),
        *(scope_of("/users/7") for _ in range(2)),
        *(scope_of("/fa/h/7", headers=[(b"host", b"abc.example.org:80")]) for _ in range(2)),
        *(scope_of("/fa/orders/ws/3", type="websocket") for _ in range(2)),
        *(scope_of("/ws/3", type="websocket") for _ in range(2)),
        *(scope_of("/n/3/items", method=method) for method in ("POST", "PUT", "HEAD", "FOO")),
    ]
    assert await totals(twin(name), _starlette(tmp_path), scopes) == {
        "api.example.org/users/{id} [GET]": 2,
        "/users/{id} [GET]": 2,
        "{part}.example.org/fa/h/{x} [GET]": 2,
        "/fa/orders/ws/{room} [GET] websocket": 2,
        "/ws/{room} [GET] websocket": 2,
        **{f"/n/{{num}}/items [{method}]": 1 for method in ("POST", "PUT", "HEAD", "OTHER")},
    }


@pytest.mark.usefixtures("_routers", "_way")
@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
async def test_the_root_path_of_fastapi_is_no_part_of_a_template() -> None:
    app = FastAPI(root_path="/proxy")
    app.mount("/sub", _sub_application())
    app.add_api_route("/users/{user}", lambda user: user)
    app.mount("/api/v9", _sub_application(root_path="/api/v9"))
    scopes = [
        *(scope_of("/proxy/users/3"), scope_of("/users/3")),
        *(scope_of("/proxy/sub/items/3"), scope_of("/proxy/sub/proxy")),
    ]
    assert await totals(twin("pure"), app, scopes) == {
        "/users/{user} [GET]": 2,
        "/sub/items/{item} [GET]": 1,
        "unmatched": 1,
    }


@pytest.mark.usefixtures("_routers")
async def test_a_route_that_is_added_later_has_its_template() -> None:
    app = Starlette(routes=[Mount("/a", routes=[Route("/x", _ok)])])
    await totals(twin("pure"), app, [scope_of("/a/x")])
    mount: Any = app.routes[0]
    mount.routes.append(Route("/y/{z}", _ok))
    scopes = [scope_of(f"/a/{path}") for path in ("x", "y/1", "y/2")]
    assert await totals(twin("pure"), app, scopes) == {"/a/x [GET]": 1, "/a/y/{z} [GET]": 2}


@pytest.mark.usefixtures("_routers", "_way")
async def test_a_router_that_mounts_itself_is_read_in_finite_time() -> None:
    router = Router([Route("/x/{y}", _ok)])
    router.routes.append(Mount("/again", app=router))
    scopes = [scope_of(path) for path in ("/x/1", "/again/x/1", "/again/again/x/2", "/again/z")]
    assert await totals(twin("pure"), router, scopes) == {
        "/x/{y} [GET]": 1,
        "/again/x/{y} [GET]": 1,
        "/again/again/x/{y} [GET]": 1,
        "unmatched": 1,
    }
