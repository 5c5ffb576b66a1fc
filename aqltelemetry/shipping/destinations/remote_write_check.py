"""Compares totals with the samples of a store that answers Prometheus's queries.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries has the API.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aqltelemetry.shipping.destination import CannotBeAsked
from aqltelemetry.shipping.destinations.prometheus_messages import TimeSeries

Ask = Callable[[Mapping[str, str]], Awaitable[str]]
"""Sends a query with these parameters, and returns the text of the answer."""
_WRITE, _QUERY = "/api/v1/write", "/api/v1/query"
_PUSH, _PROMETHEUS = "/api/v1/push", "/prometheus"
_ACCURACY = 1e-9


def query_url(write_url: str, given: str | None) -> str:
    """Return the URL for queries of a store: the given one, or one next to that for writing.

    Raises CannotBeAsked if there is none that is known.
    """
    if given is not None:
        return given
    parts = urlsplit(write_url)
    for end, before in ((_WRITE, ""), (_PUSH, _PROMETHEUS)):
        if parts.path.endswith(end) and "/insert/" not in parts.path:
            path = f"{parts.path.removesuffix(end)}{before}{_QUERY}"
            return parts._replace(path=path, query="").geturl()
    raise CannotBeAsked("the URL of its queries is not known: give it as query_url in the query")


async def differences(writer: str, wanted: Iterable[TimeSeries], ask: Ask) -> list[str]:
    """Return in words which of the last samples of a recording the store has not, or not so."""
    by_time: dict[int, list[TimeSeries]] = {}
    for series in wanted:
        by_time.setdefault(series.samples[-1].at_ms, []).append(series)
    lines = []
    for at_ms, all_series in by_time.items():
        found = _samples(await ask(_parameters(writer, at_ms)))
        for labels, samples in all_series:
            value = samples[-1].value
            there = [each for known, each in found if labels.items() <= known.items()]
            if not any(math.isclose(each, value, rel_tol=_ACCURACY) for each in there):
                what = f"{there[0]:,.16g} there" if there else "not there"
                lines.append(f"{_text(labels)} is {value:,.16g} here, and {what}")
    return lines


def _parameters(writer: str, at_ms: int) -> Mapping[str, str]:
    return {
        "query": f'last_over_time({{writer="{writer}"}}[1s])',
        "time": f"{at_ms / 1000:.3f}",
        # VictoriaMetrics else answers from its cache, and nothing that is younger than 30 s.
        "nocache": "1",
        "latency_offset": "1ms",
    }


def _samples(answer: str) -> Sequence[tuple[Mapping[str, str], float]]:
    try:
        result: list[Any] = json.loads(answer)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]
    except (ValueError, LookupError, TypeError) as exc:
        raise CannotBeAsked("it does not answer as Prometheus does") from exc


def _text(labels: Mapping[str, str]) -> str:
    others = ", ".join(f'{name}="{labels[name]}"' for name in labels if name != "__name__")
    return f"{labels['__name__']}{{{others}}}"
