from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views import html
from aqltelemetry.views.document import document
from aqltelemetry.views.strips import strips
from fakes import EPOCH_NS
from page_data import EVIL, data_of, write_rows

PAGE = Path(html.__file__).parent / "page"


def _report(db: TelemetryDB) -> str:
    return html.report_html(db, document(db))


def test_the_page_contains_the_document_and_the_strips(db: TelemetryDB) -> None:
    values, found = document(db), strips(db)
    text = html.render_html(values, found)
    assert data_of(text, "document") == json.loads(json.dumps(values))
    assert data_of(text, "strips") == json.loads(json.dumps(found.as_dict()))
    assert not data_of(text, "page")["live"]


def test_no_text_ends_the_element_that_contains_it(tmp_path: Path) -> None:
    write_rows(tmp_path, [(0, 1.0, f'"{EVIL}"', 7)], "duration")
    db = TelemetryDB(tmp_path)
    text = html.render_html({**document(db), "directory": EVIL}, strips(db))
    assert data_of(text, "document")["durations"][0]["label"] == EVIL
    assert "<img" not in text


def test_only_the_scripts_and_the_style_of_the_page_may_run(db: TelemetryDB) -> None:
    text = _report(db)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.replace("&#39;", "'").split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    for kind, pattern in (
        ("script-src", "<script>(.*?)</script>"),
        ("style-src", "<style>(.*?)</style>"),
    ):
        sources = re.findall(pattern, text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in sources]
        assert rules[kind].split() == [f"'sha256-{each.decode()}'" for each in hashes]


def test_a_live_page_may_ask_its_own_server_only(db: TelemetryDB) -> None:
    text = html.render_live_html("a recording")
    assert "connect-src &#39;self&#39;;" in text
    assert '<h1 id="title">a recording</h1>' in text
    assert data_of(text, "page")["live"]


def test_the_page_refers_to_nothing_outside(db: TelemetryDB) -> None:
    text = _report(db)
    addresses = set(re.findall(r"\b(?:https?:)?//[\w.]+\.\w+", text))
    assert addresses <= {"http://www.w3.org", "https://github.com"}
    assert not re.search(r"<(?:script|img|iframe|object)[^>]*\ssrc=|@import|url\(", text)


def test_a_report_is_written_as_a_whole(db: TelemetryDB, tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    path.parent.mkdir()
    path.write_text("old")
    html.write_html(db, path)
    assert path.read_text().startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_an_empty_recording_has_a_page(tmp_path: Path) -> None:
    assert data_of(_report(TelemetryDB(tmp_path)), "strips")["bins"] == 1


def _busy(directory: Path, rows: int, labels: int, workers: int) -> None:
    """Publish rows of so many labels and workers over an hour, in one file."""
    random = np.random.default_rng(1)
    at_ns = EPOCH_NS + np.sort(random.integers(0, 3600 * 10**9, rows))
    values = np.round(random.lognormal(-4, 3, rows), 9)
    label = random.integers(0, labels, rows) ** 2 // labels
    pid = 1000 + random.integers(0, workers, rows)
    columns = zip(at_ns.tolist(), values.tolist(), label.tolist(), pid.tolist(), strict=True)
    with (directory / "duration.1.csv").open("w") as file:
        file.write("Timepoint,Measurement,Label,PID\n")
        file.writelines(
            f"{at},{value:.9f},/{'long/' * 30}{number} [GET],{process}\n"
            for at, value, number, process in columns
        )


@pytest.mark.system
def test_a_report_of_a_million_rows_is_smaller_than_its_limit(tmp_path: Path) -> None:
    _busy(tmp_path, 1_000_000, 300, 16)
    text = _report(TelemetryDB(tmp_path))
    assert len(text.encode()) < html.MAX_BYTES
    assert data_of(text, "strips")["bins"] >= 100


def test_a_report_that_would_be_too_large_has_fewer_bins(
    db: TelemetryDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _report(db)
    monkeypatch.setattr(html, "MAX_BYTES", len(whole.encode()) - 1000)
    smaller = _report(db)
    assert len(smaller.encode()) < html.MAX_BYTES
    assert data_of(smaller, "strips")["bins"] < data_of(whole, "strips")["bins"]


def test_findings_and_rows_are_bounded(db: TelemetryDB) -> None:
    finding = {"label": "/v [GET]", "pid": 7, "text": "x"}
    values = document(db)
    row = values["durations"][0]
    values |= {"findings": [finding] * 100, "durations": [row] * 1000}
    shown = data_of(html.report_html(db, values), "document")
    assert len(shown["findings"]) == 60
    assert len(shown["durations"]) == 300
    assert (shown["left_out"]["findings"], shown["left_out"]["durations"]) == (40, 700)


def test_the_place_of_a_finding_has_charts(tmp_path: Path) -> None:
    rows = [(at, 1.0, f"block {n:02}", 7) for n in range(30) for at in range(40 - n)]
    write_rows(tmp_path, rows, "duration")
    db = TelemetryDB(tmp_path)
    finding = {"label": "block 29", "pid": None, "text": "x"}
    shown = data_of(html.report_html(db, {**document(db), "findings": [finding]}), "strips")
    assert [route["label"] for route in shown["routes"]][-2:] == ["block 11", "block 29"]
