"""The notebook, executed on what the demo recorded."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from aqltelemetry.demo.drive import run
from pages import ROOT

pytestmark = pytest.mark.system
_NOTEBOOK = ROOT / "notebooks" / "loader.ipynb"


def test_it_loads_counts_and_plots_the_demo(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = run(directory, workers=2, requests=200, connections=8)
    plot = tmp_path / "plot.pdf"
    monkeypatch.setenv("AQLTELEMETRY_DIR", str(directory))
    monkeypatch.setenv("AQLTELEMETRY_PLOT", str(plot))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    notebook = nbformat.read(_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=100, kernel_name="python3")
    client.execute(cwd=str(tmp_path), env=os.environ.copy())

    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    text = [each[-1].get("data", {}).get("text/plain", "") for each in outputs]
    assert "'/version [GET]'" in text[0]
    assert f"count    {sent['/version [GET]']}" in text[1]
    assert "0.990" in text[2]
    assert "Freq: s" in text[3]
    assert plot.read_bytes().startswith(b"%PDF")
    assert any("image/png" in output.get("data", {}) for output in outputs[5])


def test_it_is_kept_without_outputs() -> None:
    """What a run shows is the run's; the file changes only when somebody edits it."""
    notebook = nbformat.read(_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
