"""Record the requests of an aiohttp application.

    from aqltelemetry.aiohttp import setup

    setup(app, "_monitoring")

`setup` describes its options and the labels that it records.
"""

from __future__ import annotations

from aqltelemetry.hosts.aiohttp.setup import setup

__all__ = ("setup",)
