"""The services that `http_hosts.py` keeps busy: of each host, bare and with each contender.

Each answers `/users/{user}` with a line of text. The packages compared are set up as their
documentation shows, and in their cheapest form: spans end in an exporter that does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import fastapi
import flask
import uvicorn
import uvloop
from aiohttp import web
from fastapi.responses import PlainTextResponse

from aqltelemetry.system import extensions

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def aiohttp_app(contender: str) -> web.Application:
    if contender == "OpenTelemetry":
        from opentelemetry.instrumentation.aiohttp_server import (  # noqa: PLC0415
            AioHttpServerInstrumentor,
        )

        _trace()
        AioHttpServerInstrumentor().instrument()
    app = web.Application()

    async def user(request: web.Request) -> web.Response:
        return web.Response(text=f"hello {request.match_info['user']}\n")

    app.router.add_get("/users/{user}", user)
    if contender.startswith("aqltelemetry"):
        _choose_host(contender)
        from aqltelemetry.aiohttp import setup  # noqa: PLC0415 - so that others pay nothing for it

        setup(app, with_ttfb="without" not in contender)
    elif contender == "an empty middleware":
        app.middlewares.append(_nothing)
    elif contender == "prometheus_client":
        app.middlewares.append(_histogram())
    return app


@web.middleware
async def _nothing(request: web.Request, handler: _Handler) -> web.StreamResponse:
    return await handler(request)


def _histogram() -> Any:
    from prometheus_client import Histogram  # noqa: PLC0415 - as above

    histogram = Histogram("request_seconds", "of a request", ["method", "route", "status"])

    @web.middleware
    async def timed(request: web.Request, handler: _Handler) -> web.StreamResponse:
        started = perf_counter()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unmatched"
        series = histogram.labels(request.method, route, response.status)
        series.observe(perf_counter() - started)
        return response

    return timed


def fastapi_app(contender: str) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/users/{user}", response_class=PlainTextResponse)
    async def user(user: str) -> str:
        return f"hello {user}\n"

    if contender.startswith("aqltelemetry"):
        _choose_host(contender)
        from aqltelemetry.asgi import TelemetryMiddleware  # noqa: PLC0415 - as above

        app.add_middleware(TelemetryMiddleware)
    elif contender == "prometheus_client":
        from prometheus_fastapi_instrumentator import Instrumentator  # noqa: PLC0415 - as above

        Instrumentator().instrument(app)
    elif contender == "OpenTelemetry":
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415

        _trace()
        FastAPIInstrumentor.instrument_app(app)
    return app


def flask_app(contender: str) -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/users/<user>")
    def user(user: str) -> str:
        return f"hello {user}\n"

    if contender.startswith("aqltelemetry"):
        _choose_host(contender)
        from aqltelemetry.wsgi import TelemetryMiddleware  # noqa: PLC0415 - as above

        app.wsgi_app = TelemetryMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    elif contender == "prometheus_client":
        from prometheus_flask_exporter import (  # type: ignore[import-untyped]  # noqa: PLC0415
            PrometheusMetrics,
        )

        PrometheusMetrics(app)
    elif contender == "OpenTelemetry":
        from opentelemetry.instrumentation.flask import FlaskInstrumentor  # noqa: PLC0415

        _trace()
        FlaskInstrumentor().instrument_app(app)  # type: ignore[no-untyped-call]
    return app


def _choose_host(contender: str) -> None:
    """Make the host use its pure code, with all else compiled, if that is measured."""
    if not contender.endswith("pure host"):
        return
    load = extensions.load
    assert extensions.have_extensions()
    extensions.load = lambda name: None if ".hosts." in name else load(name)


def _trace() -> None:
    from opentelemetry import trace  # noqa: PLC0415 - as above
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


def serve(host: str, contender: str, port: int) -> None:
    """Serve until SIGTERM; Flask is served by Gunicorn instead."""
    if host == "aiohttp":
        uvloop.install()
        app = aiohttp_app(contender)
        web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=lambda _: None)
    else:
        uvicorn.run(
            fastapi_app(contender),
            port=port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
        )


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
