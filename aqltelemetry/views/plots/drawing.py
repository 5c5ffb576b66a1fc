"""Draws panels as a figure of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.dates
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from aqltelemetry.views.plots.panels import Event, Panel

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

# Distinct for most who confuse colours: M. Okabe and K. Ito, "Color Universal Design", 2008.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4b4f55", "#7a5bb5")
_KINDS = {
    "all": "#c3ccd5",
    "4xx": "#e69f00",
    "5xx": "#c1121f",
    "disconnect": "#7a5bb5",
    "failed": "#7f1d1d",
    "p50": "#1b2128",
    "p99": "#d55e00",
}
_EVENTS = {"kill": "#c1121f", "drop": "#c1121f"}
_EVENT = "#57626f"
_WIDTH_IN, _LOW_IN, _TALL_IN, _HEAD_IN = 10.0, 1.35, 2.3, 0.6
_MAX_NAMES = 8
_dates: Any = matplotlib.dates  # it has no types
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8b96a3",
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "svg.hashsalt": "aqltelemetry",
}


class Picture(Figure):
    """A figure that a notebook shows when it is the value of a cell."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def draw(
    panels: Sequence[Panel],
    *,
    title: str,
    span: tuple[np.datetime64, np.datetime64],
    events: Sequence[Event] = (),
) -> Figure:
    """Return a figure with the panels below each other, over the same time."""
    heights = [_TALL_IN if panel.is_tall else _LOW_IN for panel in panels]
    with mpl.rc_context(_STYLE):
        size = (_WIDTH_IN, _HEAD_IN + sum(heights))
        figure = Picture(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        every: Any = figure.subplots(
            len(panels), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for axes, panel in zip(every[:, 0], panels, strict=True):
            draw_panel(axes, panel)
            _mark(axes, events)
        _name_events(every[0, 0], events)
        set_time_axis(every[-1, 0], span)
    return figure


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw a panel into axes."""
    axes.set_title(panel.title, loc="left")
    if panel.heat is not None:
        _draw_heat(axes, panel)
    for bars in panel.bars:
        color = _KINDS.get(bars.name, _KINDS["all"])
        axes.stairs(bars.values, _numbers(panel.edges), fill=True, color=color, label=bars.name)
    for number, line in enumerate(panel.lines):
        color = _KINDS.get(line.name, _COLORS[number % len(_COLORS)])
        if line.are_events:
            axes.vlines(line.times, 0, line.values, color=color, linewidth=1)
        # Points, since a value between two gaps has no line.
        shape, size = (".", 4) if line.are_events else (".-", 2)
        axes.plot(line.times, line.values, shape, markersize=size, color=color, label=line.name)
    if panel.heat is None:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    _name(axes)


def set_time_axis(axes: Axes, span: tuple[np.datetime64, np.datetime64]) -> None:
    """Set the limits and the labels of the time axis."""
    locator = _dates.AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(_dates.ConciseDateFormatter(locator))
    axes.set_xlim(*_numbers(list(span)))
    axes.set_xlabel("time, UTC")


def _draw_heat(axes: Axes, panel: Panel) -> None:
    heat = panel.heat
    if heat is None or not heat.counts.size:
        return
    norm = LogNorm(0.6, heat.largest)
    axes.pcolormesh(
        _numbers(panel.edges), heat.edges_ms, heat.counts, cmap="Blues", norm=norm, rasterized=True
    )
    axes.set_yscale("log")
    axes.set_ylim(heat.edges_ms[0], heat.edges_ms[-1])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(LogLocator(subs=()))


def _numbers(times: Any) -> Any:
    return _dates.date2num(times)


def _mark(axes: Axes, events: Sequence[Event]) -> None:
    for event in events:
        axes.axvline(
            _numbers(event.at),
            color=_EVENTS.get(event.kind, _EVENT),
            linewidth=1,
            linestyle=(0, (4, 2)),
        )


def _name_events(axes: Axes, events: Sequence[Event]) -> None:
    """Write what the first events are next to their lines."""
    for event in events[:_MAX_NAMES]:
        axes.annotate(
            event.kind,
            (_numbers(event.at), 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=_EVENTS.get(event.kind, _EVENT),
        )


def _name(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1 or (names and names != ["all"]):
        axes.legend(
            handles[:_MAX_NAMES],
            names[:_MAX_NAMES],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=_MAX_NAMES,
            borderaxespad=0,
            handlelength=1.2,
            columnspacing=1,
        )
