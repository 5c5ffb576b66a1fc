from __future__ import annotations

from typing import Any

import pytest

from aqltelemetry.views.comparison import words
from aqltelemetry.views.comparison.compare import compare
from aqltelemetry.views.comparison.conditions import examine, parse_condition
from aqltelemetry.views.comparison.page import page
from browser import Chromium
from comparisons import recorded


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    b = recorded(2, load=4, slower=1.2)
    b = b._replace(labels={**b.labels, "<script>alert(1)</script>": b.labels["job"]})
    found = compare(recorded(1, load=4), b)
    return {**found, "conditions": examine(found, [parse_condition("p95 > 5%")])}


def test_a_page_shows_each_change_and_escapes_labels(compared: dict[str, Any]) -> None:
    text = page(compared)
    for row in compared["labels"]:
        if row["verdicts"]:
            for name, found in words.shown(row).items():
                assert f"<td>{words.interval(name, found)}</td>" in text
    assert "<script" not in text
    assert len(text) < 50_000


@pytest.mark.system
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_without_fault(
    chromium: Chromium, compared: dict[str, Any], tmp_path: Any, scheme: str
) -> None:
    file = tmp_path / "diff.html"
    file.write_text(page(compared), encoding="utf-8")
    with chromium.open(file.as_uri(), size=(390, 800), color_scheme=scheme) as visit:
        assert visit.page.title() == words.summary(compared)
        assert visit.axe() == []
        assert visit.problems() == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 390
        background = "getComputedStyle(document.body).backgroundColor"
        is_dark = visit.page.evaluate(background) != "rgb(255, 255, 255)"
        assert is_dark == (scheme == "dark")
