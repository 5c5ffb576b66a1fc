"""Record the requests of an ASGI application: Starlette, FastAPI, Litestar, Quart, Django.

from aqltelemetry.asgi import TelemetryMiddleware

app = TelemetryMiddleware(app, "_monitoring")
"""

from __future__ import annotations

from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware

__all__ = ("TelemetryMiddleware",)
