"""The metrics of what samplers measure in each process."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aqltelemetry.observation import RUNTIME, STALL
from aqltelemetry.shipping.metrics.buckets import PAUSE_BOUNDS, STALL_BOUNDS, Bounds
from aqltelemetry.shipping.metrics.metric import Metric, MetricSeries, MetricType

_PREFIX = "aqltelemetry_worker_"


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"{_PREFIX}{name}_total", MetricType.COUNTER, text, labels)


def _gauge(name: str, text: str) -> Metric:
    return Metric(_PREFIX + name, MetricType.GAUGE, text)


CPU_TIME = _counter("cpu_seconds", "Processor time since the start of the process.", "mode")
GC_PAUSE = Metric(
    f"{_PREFIX}gc_pause_seconds",
    MetricType.HISTOGRAM,
    "Pause of each garbage collection.",
    ("generation",),
)
LAG = Metric(
    f"{_PREFIX}event_loop_lag_seconds",
    MetricType.HISTOGRAM,
    "How late each tick of the event loop is, of ten ticks a second.",
)
STALL_TIME = Metric(
    f"{_PREFIX}stall_seconds",
    MetricType.HISTOGRAM,
    "Length of each stall of an event loop, or of a request on a thread, by cause.",
    ("cause",),
)
RSS = _gauge("resident_memory_bytes", "Resident memory at the last sample.")
IN_FLIGHT = _gauge("requests_in_flight", "Requests in progress at the last sample.")
_SWITCHES = _counter("context_switches", "Context switches since the start of the process.", "kind")
_DROPPED = _counter("dropped_observations", "Observations that were taken and not kept.", "reason")
_DROPPED_LABEL = "telemetry dropped "
VALUE = Metric(
    f"{_PREFIX}value",
    MetricType.GAUGE,
    "Last value of a series of `record` or of a sampler of the application.",
    ("prefix", "label"),
)
_SAMPLED: Mapping[str, MetricSeries] = MappingProxyType(
    {
        "user time": MetricSeries(CPU_TIME, ("user",)),
        "system time": MetricSeries(CPU_TIME, ("system",)),
        "gc pause gen0": MetricSeries(GC_PAUSE, ("0",)),
        "gc pause gen1": MetricSeries(GC_PAUSE, ("1",)),
        "gc pause gen2": MetricSeries(GC_PAUSE, ("2",)),
        "gc collected": MetricSeries(
            _counter("gc_collected_objects", "Objects that the garbage collector has freed.")
        ),
        "gc uncollectable": MetricSeries(
            _counter("gc_uncollectable_objects", "Objects that it could not free.")
        ),
        "event loop lag": MetricSeries(LAG),
        "rss": MetricSeries(RSS),
        "requests in flight": MetricSeries(IN_FLIGHT),
        "open fds": MetricSeries(_gauge("open_fds", "Open file descriptors.")),
        "threads": MetricSeries(_gauge("threads", "Threads of the process.")),
        "tasks": MetricSeries(_gauge("tasks", "Tasks of the event loop.")),
        "context switches voluntary": MetricSeries(_SWITCHES, ("voluntary",)),
        "context switches involuntary": MetricSeries(_SWITCHES, ("involuntary",)),
        "telemetry recorded": MetricSeries(
            _counter("recorded_observations", "Observations that the process has recorded.")
        ),
        "telemetry journal bytes": MetricSeries(_gauge("journal_bytes", "Size of the journal.")),
        "telemetry crash proof": MetricSeries(
            _gauge("crash_proof", "1, or 0 if the journal is in memory only.")
        ),
    }
)
# Built-in series that say nothing which those above do not, or that are no series of values.
_LEFT_OUT = frozenset({"gc collections", "gc pause", "cpu percent", "max rss"})
_OWN = "telemetry "
SAMPLE_METRICS = (
    *dict.fromkeys(each.metric for each in _SAMPLED.values()),
    STALL_TIME,
    _DROPPED,
    VALUE,
)
"""All metrics of samples."""


def sample_series(prefix: str, label: str) -> MetricSeries | None:
    """Return the time series of a sampled label; None for one that no metric contains.

    Args:
        prefix: The file prefix: `runtime`, `stall`, or that of `record` or of a sampler.
        label: The label of the observations.

    Example:
        >>> sample_series("runtime", "user time").metric.name
        'aqltelemetry_worker_cpu_seconds_total'
    """
    if prefix == STALL:
        return MetricSeries(STALL_TIME, (label,))
    if prefix != RUNTIME:
        return MetricSeries(VALUE, (prefix, label))
    if label.startswith(_DROPPED_LABEL):
        return MetricSeries(_DROPPED, (label.removeprefix(_DROPPED_LABEL),))
    if label in _SAMPLED:
        return _SAMPLED[label]
    is_built_in = label in _LEFT_OUT or label.startswith(_OWN)
    return None if is_built_in else MetricSeries(VALUE, (prefix, label))


def is_histogram(prefix: str, label: str) -> bool:
    """Return whether the metric of a sampled label is a histogram."""
    series = sample_series(prefix, label)
    return series is not None and series.metric.type is MetricType.HISTOGRAM


def sample_bounds(prefix: str) -> Bounds:
    """Return the bounds of the histograms of the sampled labels of a file prefix, in seconds."""
    return STALL_BOUNDS if prefix == STALL else PAUSE_BOUNDS
