"""Record the requests of an ASGI application: Starlette, FastAPI, Litestar, Quart, Django.

    from aqltelemetry.asgi import TelemetryMiddleware

    app = TelemetryMiddleware(app, "_monitoring")

`TelemetryMiddleware` describes its options and the labels that it records. `TelemetryViews` is an
application that shows the recording.
"""

from __future__ import annotations

from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware
from aqltelemetry.hosts.asgi.views import TelemetryViews

__all__ = ("TelemetryMiddleware", "TelemetryViews")
