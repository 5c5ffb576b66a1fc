"""Record the requests of an ASGI application: Starlette, FastAPI, Litestar, Quart, Django.

    from aqltelemetry.asgi import TelemetryMiddleware

    app = TelemetryMiddleware(app, "_monitoring")

`TelemetryMiddleware` describes its options and the labels that it records. `TelemetryViews` is an
application that shows the recording, `TelemetryMetrics` one that gives its metrics to Prometheus.
"""

from __future__ import annotations

from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware
from aqltelemetry.hosts.asgi.views import TelemetryMetrics, TelemetryViews

__all__ = ("TelemetryMetrics", "TelemetryMiddleware", "TelemetryViews")
