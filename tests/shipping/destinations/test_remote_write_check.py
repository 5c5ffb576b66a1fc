from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from aqltelemetry.shipping.destination import CannotBeAsked
from aqltelemetry.shipping.destinations.prometheus_messages import Sample, TimeSeries
from aqltelemetry.shipping.destinations.remote_write_check import differences, query_url


@pytest.mark.parametrize(
    ("write", "query"),
    [
        ("http://v:8428/api/v1/write?extra_label=a%3Db", "http://v:8428/api/v1/query"),
        ("https://mimir/api/v1/push", "https://mimir/prometheus/api/v1/query"),
        ("http://v:8428/prometheus/api/v1/write", "http://v:8428/prometheus/api/v1/query"),
    ],
)
def test_the_url_of_queries_is_next_to_that_of_writing(write: str, query: str) -> None:
    assert query_url(write, None) == query
    assert query_url(write, "http://other/q") == "http://other/q"


@pytest.mark.parametrize(
    "write", ["http://v/insert/0/prometheus/api/v1/write", "http://store/receive"]
)
def test_a_url_of_queries_that_is_not_known_is_asked_for(write: str) -> None:
    with pytest.raises(CannotBeAsked, match="give it as query_url"):
        query_url(write, None)


class _Store:
    """Answers with these values at these times, in seconds."""

    def __init__(self, values: Mapping[str, tuple[str, float]]) -> None:
        self._values = values
        self.queries: list[Mapping[str, str]] = []

    async def ask(self, parameters: Mapping[str, str]) -> str:
        self.queries.append(parameters)
        result = [
            {"metric": {"__name__": name, "writer": "w", "host": "h"}, "value": [0, str(value)]}
            for name, (at_s, value) in self._values.items()
            if at_s == parameters["time"]
        ]
        return json.dumps({"data": {"result": result}})


def _series(name: str, at_ms: int, value: float) -> TimeSeries:
    return TimeSeries({"__name__": name, "writer": "w"}, [Sample(at_ms, value)])


async def test_each_last_sample_is_compared_at_its_own_time() -> None:
    store = _Store({"a": ("1.500", 3.0), "b": ("2.000", 4.0), "c": ("2.000", 0.1 + 0.2)})
    wanted = [_series("a", 1500, 3.0), _series("b", 2000, 5.0), _series("c", 2000, 0.3)]
    found = await differences("w", [*wanted, _series("d", 2000, 1.0)], store.ask)
    assert found == [
        'b{writer="w"} is 5 here, and 4 there',
        'd{writer="w"} is 1 here, and not there',
    ]
    assert [each["query"] for each in store.queries] == ['last_over_time({writer="w"}[1s])'] * 2


async def test_an_answer_that_is_not_prometheus_s_is_said() -> None:
    async def answer(_parameters: Mapping[str, str]) -> str:
        return "<html>"

    with pytest.raises(CannotBeAsked, match="as Prometheus does"):
        await differences("w", [_series("a", 1500, 3.0)], answer)
