"""The pictures of a recording: `db.plot`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aqltelemetry.observation import DURATION
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.reading.frames import check_known
from aqltelemetry.views.plots.drawing import draw, draw_panel, set_time_axis
from aqltelemetry.views.plots.panels import duration_panel, events, panels, span
from aqltelemetry.views.strips import MAX_WORKERS, strips

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


BINS = 200
"""How many time bins a picture has at most."""


class Plots:
    """Draws a recording; see `aqltelemetry.reading.exports.pictures.Pictures`."""

    def __init__(self, db: TelemetryDB) -> None:
        self._db = db

    def timeline(
        self,
        label: str | Iterable[str] | None = None,
        *,
        bins: int = BINS,
        workers: bool = True,
    ) -> Figure:
        """Draw rates, durations and workers over time."""
        labels = self._labels(label)
        found = strips(self._db, bins=bins, routes=labels, workers=MAX_WORKERS if workers else 0)
        shown = panels(found, with_overall=not labels)
        title = self._title()
        return draw(shown, title=title, span=span(found), events=events(found))

    def heatmap(
        self, label: str | None = None, *, bins: int = BINS, ax: Axes | None = None
    ) -> Figure:
        """Draw how many durations there were of each length, over time."""
        labels = self._labels(label)
        found = strips(self._db, bins=bins, routes=labels, workers=0)
        (panel,) = [
            duration_panel(found, route) for route in (found.routes if labels else [found.overall])
        ]
        if ax is None:
            return draw([panel], title=self._title(), span=span(found), events=events(found))
        draw_panel(ax, panel)
        set_time_axis(ax, span(found))
        figure = ax.get_figure(root=True)
        assert figure is not None  # noqa: S101 - axes that are drawn into are in a figure
        return figure

    def _labels(self, label: str | Iterable[str] | None) -> list[str]:
        if label is None:
            return []
        labels = [label] if isinstance(label, str) else list(label)
        for each in labels:
            check_known("there is no series", each, self._db.rows(DURATION).labels)
        return labels

    def _title(self) -> str:
        return ", ".join(self._db.directories)
