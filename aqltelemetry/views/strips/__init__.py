"""Computes what charts draw over time: the only source of the HTML report, `serve` and `plot`."""

from aqltelemetry.views.strips.lives import Lives, Recorded, recorded
from aqltelemetry.views.strips.strip_set import (
    MAX_BINS,
    MAX_ROUTES,
    MAX_WORKERS,
    Strips,
    strips,
)

__all__ = [
    "MAX_BINS",
    "MAX_ROUTES",
    "MAX_WORKERS",
    "Lives",
    "Recorded",
    "Strips",
    "recorded",
    "strips",
]
