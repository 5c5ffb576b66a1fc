"""The notebook, executed on recordings of different services."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from aqltelemetry import TelemetryDB, sync
from aqltelemetry.demo.drive import run
from pages import ROOT
from planted import planted

pytestmark = pytest.mark.system
_NOTEBOOK = ROOT / "notebooks" / "loader.ipynb"


def _demo(directory: Path) -> None:
    run(directory, workers=2, requests=200, connections=8)


def _incident(directory: Path) -> None:
    planted("blocked loop", 1).write(directory)


def _blocks_only(directory: Path) -> None:
    sync.start(directory, with_runtime=False)
    for _ in range(20):
        with sync.time_block("a block of $5 [and] {more}"):
            pass
    sync.stop()


@pytest.mark.parametrize("record", [_demo, _incident, _blocks_only])
def test_it_answers_its_questions_for_any_recording(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Any
) -> None:
    record(directory)
    picture = tmp_path / "route.pdf"
    monkeypatch.setenv("AQLTELEMETRY_DIR", str(directory))
    monkeypatch.setenv("AQLTELEMETRY_PLOT", str(picture))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    notebook = nbformat.read(_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=100, kernel_name="python3")
    client.execute(cwd=str(tmp_path), env=os.environ.copy())

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs
    )
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert picture.read_bytes().startswith(b"%PDF")
    db = TelemetryDB(directory)
    route = db.summary().index[0]
    assert f"{route}: in " in text
    assert f"{route}: p99 of the slowest worker is " in text
    slowest = db.slowest(1, route).iloc[0]
    assert f"{slowest['duration_s'] * 1e3:.1f} ms from {slowest['begin']} on" in text


def test_it_is_kept_without_outputs() -> None:
    """What a run shows is the run's; the file changes only when somebody edits it."""
    notebook = nbformat.read(_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
