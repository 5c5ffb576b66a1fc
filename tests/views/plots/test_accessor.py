from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from aqltelemetry import TelemetryDB
from aqltelemetry.errors import MissingExtraError, SeriesError
from planted import planted


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> TelemetryDB:
    return TelemetryDB(planted("killed", 3).write(tmp_path_factory.mktemp("m")))


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_a_timeline_has_a_panel_for_each_title(db: TelemetryDB) -> None:
    titles = _titles(db.plot.timeline())
    assert titles[:3] == [
        "all requests: per second",
        "all requests: duration, ms",
        "workers: p99 of all requests, ms",
    ]


def test_a_timeline_of_some_labels_has_two_panels_for_each(db: TelemetryDB) -> None:
    labels = list(db.summary().index[:2])
    titles = _titles(db.plot.timeline(labels, workers=False))
    assert titles == [
        title for each in labels for title in (f"{each}: per second", f"{each}: duration, ms")
    ]
    assert _titles(db.plot.timeline(labels[0], workers=False)) == titles[:2]


def test_a_kill_is_a_line_in_each_panel_and_is_named(db: TelemetryDB) -> None:
    figure = db.plot.timeline()
    assert all(any(line.get_linestyle() == "--" for line in axes.lines) for axes in figure.axes)
    assert [text.get_text() for text in figure.axes[0].texts] == ["kill"]


def test_a_heat_map_is_drawn_into_given_axes(db: TelemetryDB) -> None:
    figure = Figure()
    axes = figure.subplots()
    label = db.summary().index[0]
    assert db.plot.heatmap(label, ax=axes) is figure
    assert axes.get_title(loc="left") == f"{label}: duration, ms"
    assert axes.get_yscale() == "log"


def test_a_figure_is_shown_by_a_notebook(db: TelemetryDB) -> None:
    figure: Any = db.plot.heatmap()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_label_is_an_error_that_lists_similar_ones(db: TelemetryDB) -> None:
    for draw in (db.plot.timeline, db.plot.heatmap):
        with pytest.raises(SeriesError, match="there is no series"):
            draw("/nothing [GET]")


def test_a_recording_without_durations_is_drawn(tmp_path: Path) -> None:
    db = TelemetryDB(tmp_path)
    assert _titles(db.plot.timeline())[0] == "all durations: per second"
    db.plot.timeline().savefig(tmp_path / "empty.png")


def test_labels_with_signs_of_mathematics_are_drawn_as_they_are(tmp_path: Path) -> None:
    rows = "".join(f"{10**18 + n * 10**8},0.5,$x_{{1}} $\\frac,7\n" for n in range(9))
    (tmp_path / "duration.1.csv").write_text("Timepoint,Measurement,Label,PID\n" + rows)
    figure = TelemetryDB(tmp_path).plot.timeline("$x_{1} $\\frac")
    figure.savefig(tmp_path / "x.png")
    assert _titles(figure)[0] == "$x_{1} $\\frac: per second"


def test_without_matplotlib_the_extra_is_named(
    db: TelemetryDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "matplotlib":
            raise ImportError("No module named 'matplotlib'")
        return real(name, *arguments, **keywords)

    for name in [each for each in sys.modules if each.startswith("aqltelemetry.views.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"install aqltelemetry\[plot\]"):
        db.plot.timeline()
