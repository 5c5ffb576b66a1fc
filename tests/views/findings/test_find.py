"""No finding on steady recordings, and the right one on each recording with a planted fault."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views.findings.find import RULES, find
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.rule import Rule
from planted import KINDS, planted, steady
from recordings import Fault, Recording

_SLACK_NS = 5_000_000_000


def _found(recording: Recording, directory: Path) -> list[Finding]:
    return find(TelemetryDB(recording.write(directory)), zone=UTC)


def _is_of(finding: Finding, recording: Recording, fault: Fault) -> bool:
    return (
        finding.rule == fault.rule
        and fault.label in (None, finding.label)
        and fault.pid in (None, finding.pid)
        and fault.cause in finding.text
        and finding.begin_ns <= recording.ns(fault.end_s) + _SLACK_NS
        and finding.end_ns >= recording.ns(fault.begin_s) - _SLACK_NS
    )


def _misses(kind: str, seeds: range, directory: Path) -> list[int]:
    misses = []
    for seed in seeds:
        recording = planted(kind, seed)
        assert recording.fault is not None
        findings = _found(recording, directory / str(seed))
        if not any(_is_of(finding, recording, recording.fault) for finding in findings):
            misses.append(seed)
    return misses


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_is_found_at_its_place(tmp_path: Path, kind: str) -> None:
    assert _misses(kind, range(1), tmp_path) == []


@pytest.mark.system
def test_at_least_95_of_100_planted_faults_are_found(tmp_path: Path) -> None:
    seeds = range(100, 110)
    misses = {kind: _misses(kind, seeds, tmp_path / kind) for kind in KINDS}
    assert sum(map(len, misses.values())) <= 0.05 * len(seeds) * len(KINDS), misses
    assert max(map(len, misses.values())) <= 2, misses


@pytest.mark.parametrize("seed", range(6))
def test_a_steady_recording_has_no_findings(tmp_path: Path, seed: int) -> None:
    assert [finding.text for finding in _found(steady(seed), tmp_path)] == []


@pytest.mark.system
def test_200_steady_recordings_have_no_findings(tmp_path: Path) -> None:
    texts = {
        seed: [finding.text for finding in _found(steady(seed), tmp_path / str(seed))]
        for seed in range(1000, 1200)
    }
    assert {seed: found for seed, found in texts.items() if found} == {}


def test_an_empty_recording_has_no_findings(tmp_path: Path) -> None:
    assert find(TelemetryDB(tmp_path)) == []


def test_a_rule_that_fails_is_logged_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> Iterator[Finding]:
        yield from ()
        raise ZeroDivisionError

    recording = planted("killed", 0)
    db = TelemetryDB(recording.write(tmp_path))
    found = find(db, rules=(Rule("broken", "Always fails.", fail), *RULES))
    assert [each.rule for each in found] == ["killed"]
    assert "'broken' are missing: ZeroDivisionError()" in caplog.text


def test_findings_are_sorted_by_severity_rule_and_weight(tmp_path: Path) -> None:
    def made(rule: str, severity: Severity, weight: float) -> Finding:
        return Finding(rule, f"{weight}", severity, None, None, 0, 0, {}, weight)

    def several(_: object) -> Iterator[Finding]:
        yield made("clock step", Severity.NOTICE, 9)
        yield made("long tail", Severity.WARNING, 1)
        yield made("long tail", Severity.WARNING, 2)
        yield made("slow worker", Severity.WARNING, 0)
        yield made("unknown", Severity.WARNING, 7)
        yield made("drops", Severity.ERROR, 0)

    found = find(TelemetryDB(tmp_path), rules=(Rule("several", "Yields several.", several),))
    assert [(each.rule, each.weight) for each in found] == [
        *(("drops", 0), ("slow worker", 0), ("long tail", 2), ("long tail", 1), ("unknown", 7)),
        ("clock step", 9),
    ]
