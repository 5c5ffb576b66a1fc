"""Shows the page of a recording, and its metrics, as a part of an aiohttp application."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from aqltelemetry.errors import OptionError, ViewsError
from aqltelemetry.hosts.kinds import require_aiohttp
from aqltelemetry.hosts.views_process import ViewsProcess, metrics

_PREFIX = "/_telemetry"
_METRICS = "/metrics"


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


def add_metrics_route(
    app: web.Application,
    path: str = "/metrics",
    monitoring_dir: str | os.PathLike[str] | None = None,
    buckets: Sequence[float] | None = None,
) -> None:
    """Answer the scrapes of Prometheus as a part of an aiohttp application.

        setup(app, "_monitoring")
        add_metrics_route(app)

    Each scrape has the metrics of all workers that record into the directory, whichever of them
    answers. **Everybody who can reach the path sees all labels**: the application's own
    middlewares decide who can.

    Reading and counting are done by another process of lower priority, which runs while it is
    scraped; it needs the packages of `aqltelemetry[prometheus]`. The application passes on bytes.

    Parameters:
        app: The application, or a sub-application with a middleware of its own.
        path: The path that is scraped.
        monitoring_dir: The directory to read; by default the one that this process records into.
        buckets: The upper bounds of the buckets of durations, in seconds; by default 0.001 to 10.

    Raises:
        OptionError: For a path that does not begin with a slash, wrong buckets, or a wrong
            directory.
        WrongApplicationError: For an object that is not an application of aiohttp's.
    """
    require_aiohttp(app, web.Application)
    if not path.startswith("/"):
        raise OptionError("path", path, "must begin with a slash")
    process = ViewsProcess(monitoring_dir, metrics(buckets))

    async def scrape(request: web.Request) -> web.StreamResponse:
        return await _show(process, request, _METRICS)

    app.router.add_get(path, scrape)


async def _show(
    process: ViewsProcess, request: web.Request, path: str | None = None
) -> web.StreamResponse:
    """Pass on a request, for this path or that of the request."""
    path = f"/{request.match_info['path']}" if path is None else path
    query, accept = request.rel_url.raw_query_string, request.headers.get("Accept", "*/*")
    try:
        async with process.get(path, query, accept) as answer:
            response = web.StreamResponse(status=answer.status, headers=answer.headers)
            with suppress(ConnectionError):  # the browser has gone away
                await response.prepare(request)
                async for chunk in answer.body:
                    await response.write(chunk)
                await response.write_eof()
            return response
    except ViewsError as exc:
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{exc}\n")
