from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aqltelemetry.errors import DestinationError, OptionError
from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.destination import FileGone, Receipt, ShippedFile, Unavailable
from aqltelemetry.shipping.target import Origin, Target
from servers import wait_until
from shipments import START_NS, Row, publish, rows_of, shipment

_MESSAGES: dict[str, Any] = {
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
_S = 1_000_000_000


class _Receiver:
    """A receiver that answers what a test says, and keeps what it gets."""

    def __init__(self, server: BaseTestServer) -> None:
        self.answers: list[int] = []
        self.metrics: list[Any] = []
        self.traces: list[Any] = []
        self.headers: dict[str, str] = {}
        self.url = f"otlp+http://{server.host}:{server.port}"

    def points(self, name: str) -> list[Any]:
        """Return the points of a metric, in the order of their arrival."""
        return [
            point
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]

    def spans(self) -> list[Any]:
        """Return the spans."""
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
async def receiver() -> AsyncIterator[_Receiver]:
    async def take(request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        body = await request.read()  # decompressed by the server
        message = _MESSAGES[kind]()
        message.ParseFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        found.headers = dict(request.headers)
        status = found.answers.pop(0) if found.answers else 200
        if status == 200:
            getattr(found, kind).append(message)
        return web.Response(status=status, text="the reason", headers={"Retry-After": "60"})

    app = web.Application()
    app.router.add_post("/v1/{kind}", take)
    async with TestServer(app) as server:
        found = _Receiver(server)
        yield found


async def _ship(url: str, files: list[ShippedFile], **planned: Any) -> Receipt:
    destination = make_destination(Target(url, Origin("h1", "orders")))
    await destination.open()
    try:
        return await destination.ship(replace(shipment(files), **planned))
    finally:
        await destination.close()


def _rows(*rows: tuple[float, str, str]) -> list[Row]:
    return [(START_NS + round(at_s * _S), value, label, 4001) for at_s, value, label in rows]


async def test_points_are_cumulative_since_a_time_that_stays_the_same(
    tmp_path: Path, receiver: _Receiver
) -> None:
    first = publish(tmp_path, 1, _rows((0, "0.5", "/a [GET]"), (70, "0.5", "/a [GET]")))
    receipt = await _ship(receiver.url, [first])
    assert (receipt.rows, receipt.refused) == (2, {})
    (tmp_path / "2").mkdir()
    second = publish(tmp_path / "2", 1, _rows((71, "0.5", "/a [GET]"), (200, "0", "/a [GET]")))
    for _ in range(2):
        await _ship(receiver.url, [second], notes=receipt.notes)
    points = receiver.points("http.server.request.duration")
    assert [point.count for point in points] == [1, 2, 3, 4, 3, 4]
    assert len({point.start_time_unix_nano for point in points}) == 1
    assert points[2:4] == points[4:6]
    last = points[3]
    assert (last.scale, last.sum, last.zero_count) == (5, 1.5, 1)
    assert (last.positive.offset, list(last.positive.bucket_counts)) == (-33, [3])
    assert (last.min, last.max) == (0.0, 0.5)
    assert last.start_time_unix_nano < points[0].time_unix_nano
    assert abs(last.time_unix_nano - START_NS - 200 * _S) < 1_000_000


async def test_samples_are_gauges_and_sums_with_the_names_of_the_conventions(
    tmp_path: Path, receiver: _Receiver
) -> None:
    rows = _rows((0, "1.5", "user time"), (0, "1000", "rss"), (0, "0.02", "gc pause gen2"))
    file = publish(tmp_path, 1, rows, prefix="runtime")
    await _ship(receiver.url, [file], prefix="runtime")
    (cpu,) = receiver.points("process.cpu.time")
    assert (cpu.as_double, cpu.attributes[0].value.string_value) == (1.5, "user")
    (rss,) = receiver.points("process.memory.usage")
    assert rss.as_double == 1000
    (pause,) = receiver.points("aqltelemetry.gc.pause")
    assert pause.count == 1
    resource = receiver.metrics[-1].resource_metrics[0].resource.attributes
    attributes = {each.key: each.value for each in resource}
    assert attributes["service.name"].string_value == "orders"
    assert attributes["host.name"].string_value == "h1"
    assert attributes["process.pid"].int_value == 4001


async def test_stalls_are_a_histogram_by_cause(tmp_path: Path, receiver: _Receiver) -> None:
    rows = _rows((0, "0.5", "no CPU"), (70, "0.25", "no CPU"), (70, "2.0", "blocking I/O"))
    await _ship(receiver.url, [publish(tmp_path, 1, rows, prefix="stall")], prefix="stall")
    points = receiver.points("aqltelemetry.event_loop.stall")
    counts = {(each.attributes[0].value.string_value, each.count, each.sum) for each in points}
    assert counts == {("no CPU", 1, 0.5), ("no CPU", 2, 0.75), ("blocking I/O", 1, 2.0)}


async def test_slow_requests_are_spans_which_are_the_same_each_time(
    tmp_path: Path, receiver: _Receiver
) -> None:
    rows = _rows(
        *((0, "0.7", "/a [GET]"), (0, "0.7", "/a [GET] 5xx"), (0, "0.6", "/a [GET] ttfb")),
        *((1, "0.1", "/a [GET]"), (2, "2.0", "job"), (3, "0.5", "/b [POST]")),
    )
    file = publish(tmp_path, 1, rows)
    for _ in range(2):
        await _ship(f"{receiver.url}?slow_spans=500ms", [file])
    slow, other, *again = receiver.spans()
    assert again == [slow, other]
    assert (slow.name, other.name) == ("GET /a", "POST /b")
    assert slow.end_time_unix_nano - slow.start_time_unix_nano == 700_000_000
    attributes = {each.key: each.value.string_value for each in slow.attributes}
    assert attributes["error.type"] == "5xx"
    assert (slow.status.code, other.status.code) == (2, 0)


async def test_what_a_receiver_refuses_is_set_aside(tmp_path: Path, receiver: _Receiver) -> None:
    files = [publish(tmp_path, 1), publish(tmp_path, 2)]
    receiver.answers = [200, 400]
    receipt = await _ship(receiver.url.replace("//", "//:token@"), files)
    assert receipt.rows == 100
    assert receipt.refused == {files[0].name: "it answers 400: the reason"}
    assert receiver.headers["Authorization"] == "Bearer token"
    Path(files[1].path).unlink()
    with pytest.raises(FileGone):
        await _ship(receiver.url, files)


async def test_a_receiver_that_fails_is_unavailable(
    receiver: _Receiver, free_port: Callable[[], int]
) -> None:
    receiver.answers = [401]
    with pytest.raises(DestinationError, match="it answers 401"):
        await make_destination(Target(receiver.url)).open()
    receiver.answers = [503]
    destination = make_destination(Target(receiver.url))
    with pytest.raises(Unavailable, match="it answers 503"):
        await destination.open()
    await destination.close()


def test_wrong_options_are_reported() -> None:
    for option in ("slow_spans=x", "slow_spans=0", "interval=0"):
        with pytest.raises(OptionError, match=option.split("=")[0]):
            make_destination(Target(f"otlp+http://127.0.0.1:9?{option}"))


@pytest.mark.system
async def test_an_independent_receiver_decodes_the_totals_of_the_files(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The agent of Rotel writes what it received as text."""
    agent = Path(sysconfig.get_path("purelib")) / "rotel" / "rotel-agent"
    port, log = free_port(), tmp_path / "log"
    command = [str(agent), "start", "--exporter", "blackhole", "--debug-log", "metrics"]
    command += ["--debug-log-verbosity", "detailed"]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"]
    files = [publish(tmp_path, number, 500) for number in range(3)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "NO_COLOR": "1"}
        ) as it,
    ):
        try:
            destination = make_destination(Target(f"otlp+http://127.0.0.1:{port}"))
            await asyncio.to_thread(wait_until, lambda: b"Starting" in log.read_bytes(), "a start")
            await _open(destination)
            assert (await destination.ship(shipment(files))).rows == 1500
            await destination.close()
            wanted = Counter(label for _, _, label, _, _ in rows_of(files))["/a [GET]"]
            await asyncio.to_thread(
                wait_until, lambda: _decoded(log.read_text()) == wanted, "the total"
            )
        finally:
            it.terminate()


async def _open(destination: Any) -> None:
    """Connect to a receiver that is starting."""
    for _ in range(600):
        try:
            await destination.open()
        except Unavailable:
            await asyncio.sleep(0.1)
        else:
            return


def _decoded(text: str) -> int:
    """Return the number of requests by the last point of each recording."""
    total = 0
    for part in text.split("Name: http.server.request.duration")[1:]:
        counts = re.findall(r"^Count: (\d+)", part.split("Metric #")[0], re.MULTILINE)
        buckets = re.findall(r"^Bucket .*Count: (\d+)", part.split("Metric #")[0], re.MULTILINE)
        if counts and sum(map(int, buckets)) >= int(counts[-1]):
            total += int(counts[-1])
    return total
