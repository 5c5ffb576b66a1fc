"""Shows the page of a recording as a part of an aiohttp application."""

from __future__ import annotations

import os
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from aqltelemetry.errors import OptionError, ViewsError
from aqltelemetry.hosts.kinds import require_aiohttp
from aqltelemetry.hosts.views_process import ViewsProcess

_PREFIX = "/_telemetry"


def add_routes(
    app: web.Application,
    prefix: str = _PREFIX,
    monitoring_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Show the recording of an aiohttp application as a part of it, live.

        app = web.Application(middlewares=[require_login])
        setup(app, "_monitoring")
        add_routes(app)

    The page is then at `/_telemetry/`. **Everybody who can reach it sees all labels, workers
    and durations**: the application's own middlewares decide who can.

    Reading and computing are done by another process of lower priority, which runs while somebody
    looks; it needs the packages of `aqltelemetry[aiohttp,report]`. The application passes on bytes.

    Parameters:
        app: The application, or a sub-application with a middleware of its own.
        prefix: The path of the page.
        monitoring_dir: The directory to show; by default the one that this process records into.

    Raises:
        OptionError: For a prefix that does not begin with a slash, or a wrong directory.
        WrongApplicationError: For an object that is not an application of aiohttp's.
    """
    require_aiohttp(app, web.Application)
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise OptionError("prefix", prefix, "must begin with a slash, and not end with one")
    process = ViewsProcess(monitoring_dir)

    async def show(request: web.Request) -> web.StreamResponse:
        return await _show(process, request)

    async def redirect(request: web.Request) -> web.StreamResponse:
        # The page's own links are relative to it.
        raise web.HTTPPermanentRedirect(request.rel_url.with_path(f"{request.path}/"))

    app.router.add_get(prefix, redirect)
    app.router.add_get(prefix + "/{path:.*}", show)


async def _show(process: ViewsProcess, request: web.Request) -> web.StreamResponse:
    path, query = f"/{request.match_info['path']}", request.rel_url.raw_query_string
    try:
        async with process.get(path, query) as answer:
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            with suppress(ConnectionError):  # the browser has gone away
                await response.prepare(request)
                async for chunk in answer.body:
                    await response.write(chunk)
                await response.write_eof()
            return response
    except ViewsError as exc:
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{exc}\n")
