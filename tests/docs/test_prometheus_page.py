from __future__ import annotations

import re

from aqltelemetry.shipping.metrics.durations import DURATION_METRICS
from aqltelemetry.shipping.metrics.samples import SAMPLE_METRICS
from aqltelemetry.views.metrics.collector import OWN_METRICS
from pages import ROOT

_PAGE = (ROOT / "docs" / "guides" / "prometheus.md").read_text()


def test_the_tables_of_metrics_are_those_of_the_code() -> None:
    wanted = []
    for metric in (*DURATION_METRICS, *SAMPLE_METRICS, *OWN_METRICS):
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        wanted.append(f"| `{metric.name}` | {metric.type.value} | {labels} | {metric.text} |")
    assert re.findall(r"^\| `aqltelemetry_.*", _PAGE, re.MULTILINE) == wanted
