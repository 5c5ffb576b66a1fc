"""A request to aiohttp that is being handled has the label of its route."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aqltelemetry.hosts.aiohttp.labels import running_label


async def _handle(request: web.Request) -> web.Response:
    return web.Response(text=running_label(request))


async def test_a_request_has_the_label_of_its_route_once_it_has_one() -> None:
    app = web.Application()
    app.router.add_get("/users/{id}", _handle)
    app.freeze()
    request = make_mocked_request("GET", "/users/7", app=app)
    match_info = await app.router.resolve(request)
    match_info.add_app(app)
    request._match_info = match_info
    assert (await _handle(request)).text == "/users/{id} [GET]"
    missing = make_mocked_request("GET", "/missing", app=app)
    missing._match_info = await app.router.resolve(missing)
    assert running_label(missing) == ""
    assert running_label("no request") == ""
