"""Record the requests of an aiohttp application.

    from aqltelemetry.aiohttp import setup

    setup(app, "_monitoring")

`setup` describes its options and the labels that it records. `add_routes` shows the recording as
a part of the application, `add_metrics_route` gives its metrics to Prometheus.
"""

from __future__ import annotations

from aqltelemetry.hosts.aiohttp.setup import setup
from aqltelemetry.hosts.aiohttp.views import add_metrics_route, add_routes

__all__ = ("add_metrics_route", "add_routes", "setup")
