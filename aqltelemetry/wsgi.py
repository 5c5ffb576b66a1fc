"""Record the requests of a WSGI application: Flask, Django, Bottle, Falcon, Pyramid.

    from aqltelemetry.wsgi import TelemetryMiddleware

    app = TelemetryMiddleware(app, "_monitoring")

`TelemetryMiddleware` describes its options and the labels that it records. `TelemetryMetrics` gives
its metrics to Prometheus.
"""

from __future__ import annotations

from aqltelemetry.hosts.wsgi.metrics import TelemetryMetrics
from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware

__all__ = ("TelemetryMetrics", "TelemetryMiddleware")
