"""The interface of `db.plot`, which the views implement."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from aqltelemetry.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Pictures(Protocol):
    """Draws a recording with matplotlib, which the extra `plot` installs.

    Figures do not belong to pyplot: a notebook shows one that is the value of a cell,
    `figure.savefig` writes it, and none has to be closed.
    """

    def timeline(
        self,
        label: str | Iterable[str] | None = None,
        *,
        bins: int = 200,
        workers: bool = True,
    ) -> Figure:
        """Draw rates, durations and workers over time.

        Args:
            label: One label or several, each of which gets its rate, with errors, and its
                durations as a heat map with the median and the 99th percentile. By default all
                requests together; all durations, if there are no requests.
            bins: The largest number of time bins.
            workers: Draw the event loop's lag, the collector's pauses, processor time, memory
                and requests in flight of the busiest processes, too.

        Returns:
            A figure with a panel below the other for each of these. Times are UTC.

        Raises:
            SeriesError: There are durations, but none with this label.
            MissingExtraError: matplotlib is not installed: `pip install aqltelemetry[plot]`.

        Example:
            >>> db.plot.timeline("/orders/{id} [GET]").savefig("orders.png", dpi=150)
        """
        ...

    def heatmap(
        self, label: str | None = None, *, bins: int = 200, ax: Axes | None = None
    ) -> Figure:
        """Draw how many durations of each length there were over time, as a heat map.

        Args:
            label: The label; by default all requests together.
            bins: The largest number of time bins.
            ax: The axes to draw into; by default those of a new figure.

        Returns:
            The figure, with the median and the 99th percentile of each bin as lines.

        Raises:
            SeriesError: There are durations, but none with this label.
            MissingExtraError: matplotlib is not installed: `pip install aqltelemetry[plot]`.

        Example:
            >>> db.plot.heatmap("db query")
        """
        ...


def pictures_of(db: Any) -> Pictures:
    """Return what draws a `TelemetryDB`; raises MissingExtraError."""
    try:
        # By name, as pandas finds what draws its frames: this room stands below the views.
        views = import_module("aqltelemetry.views.plots")
    except ImportError as exc:
        raise MissingExtraError("plot", exc) from exc
    made: Pictures = views.Plots(db)
    return made
