"""The page about findings describes each rule, and each figure of its findings."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views import findings
from aqltelemetry.views.findings.find import RULES, find
from pages import Page
from planted import KINDS, planted

_TEXT = Page("docs/reference/findings.md").path.read_text()
_SECTIONS = dict(re.findall(r"^## (.+)\n\n((?:(?!## ).*\n)+)", _TEXT, re.MULTILINE))


def test_each_rule_has_a_section_that_begins_with_its_meaning() -> None:
    assert [*_SECTIONS] == [rule.name for rule in RULES]
    for rule in RULES:
        assert _SECTIONS[rule.name].startswith(f"{rule.meaning}\n"), rule.name
        assert "\n- Next: " in _SECTIONS[rule.name]


@pytest.mark.parametrize("kind", KINDS)
def test_each_figure_of_a_finding_is_described(tmp_path: Path, kind: str) -> None:
    for finding in find(TelemetryDB(planted(kind, 1).write(tmp_path))):
        (listed,) = re.findall(r"- Figures: ((?:.+\n)(?:  .+\n)*)", _SECTIONS[finding.rule])
        assert set(re.findall(r"`(\w+)`", listed)) == set(finding.figures), finding.rule


def test_each_limit_of_a_rule_has_a_reason() -> None:
    for module in pkgutil.walk_packages(findings.__path__, f"{findings.__name__}."):
        source = Path(importlib.import_module(module.name).__file__ or "").read_text()
        limits = re.findall(r"^(MIN_\w+|MAX_\w+) = .+\n(.?)", source, re.MULTILINE)
        assert {name for name, reason in limits if reason != '"'} == set(), module.name
