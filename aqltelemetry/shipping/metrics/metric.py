"""What a metric is: its name, type, labels and description, as Prometheus knows them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class MetricType(Enum):
    """The type of a metric, by its name in the formats of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: Its name; that of a counter ends with `_total`.
        type: Its type.
        text: One line that describes it, with its unit.
        labels: The names of its own labels. Those of a worker have `pid` and `writer` in addition.
    """

    name: str
    type: MetricType
    text: str
    labels: tuple[str, ...] = ()


class MetricSeries(NamedTuple):
    """A time series of a metric: the values of its labels, in their order."""

    metric: Metric
    values: tuple[str, ...] = ()


WORKER_LABELS = ("pid", "writer")
"""The labels that identify a recording."""
