"""Draws strips with matplotlib: for `aqltelemetry plot`, and for notebooks as `db.plot`."""

from aqltelemetry.views.plots.accessor import Plots

__all__ = ["Plots"]
