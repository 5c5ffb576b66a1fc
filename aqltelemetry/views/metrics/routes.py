"""The route that Prometheus scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from aiohttp import web

from aqltelemetry.errors import TelemetryError
from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS, Bounds
from aqltelemetry.views.metrics.scrape import Scrapes

PATH = "/metrics"
"""Where the metrics are."""


def add_metrics(
    application: web.Application,
    directories: Sequence[str],
    journal_dir: str | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Scrapes:
    """Add the metrics of recordings to an application; they are counted from now on.

    Args:
        application: The application, whose middlewares decide who may ask.
        directories: The monitoring directories; they must exist.
        journal_dir: The option `journal_dir` of the recording, if it had one.
        bounds: The bounds of the histograms of durations, in seconds.

    Returns:
        What answers the scrapes; it is closed with the application.
    """
    scrapes = Scrapes(directories, journal_dir, bounds)

    async def get_metrics(request: web.Request) -> web.Response:
        try:
            made = await asyncio.wrap_future(scrapes.scrape(request.headers.get("Accept", "")))
        except (TelemetryError, OSError) as exc:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{exc}\n")
        response = web.Response(body=made.body, headers={"Content-Type": made.content_type})
        response.enable_compression()
        return response

    async def closing(_app: web.Application) -> AsyncIterator[None]:
        yield
        scrapes.close()

    application.router.add_get(PATH, get_metrics)
    application.cleanup_ctx.append(closing)
    return scrapes
