from __future__ import annotations

import asyncio
import base64
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cramjam
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from aqltelemetry.errors import DestinationError, OptionError
from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.destination import FileGone, Receipt, ShippedFile, Unavailable
from aqltelemetry.shipping.destinations.remote_write import RemoteWrite
from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS
from aqltelemetry.shipping.target import Origin, Target
from aqltelemetry.sinks.file_names import FileName, enclosing
from monitoring import Engine, prometheus, victoria_metrics
from shipments import Row, publish, rows_of, shipment

_S = 1_000_000_000
_LABELS = ("/a [GET]", "/a [GET] 5xx", "/a [GET] ttfb", "query", "query failed")
_REQUESTS = "aqltelemetry_request_duration_seconds"


class _Store:
    """A store that answers what a test says, and keeps the requests."""

    def __init__(self, server: BaseTestServer) -> None:
        self.answers: list[tuple[int, str]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"remote-write+http://{server.host}:{server.port}/api/v1/write"


@pytest.fixture
async def store() -> AsyncIterator[_Store]:
    async def write(request: web.Request) -> web.Response:
        body = await request.read()
        found.requests.append((request.rel_url.query_string, dict(request.headers), body))
        status, text = found.answers.pop(0) if found.answers else (204, "")
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_post("/api/v1/write", write)
    async with TestServer(app) as server:
        found = _Store(server)
        yield found


async def _ship(target: Target, file: ShippedFile) -> Receipt:
    destination = make_destination(target)
    await destination.open()
    try:
        return await destination.ship(shipment([file]))
    finally:
        await destination.close()


async def test_credentials_go_into_a_header_and_options_do_not_leave(
    tmp_path: Path, store: _Store
) -> None:
    file = publish(tmp_path, 1)
    url = store.url.replace("//", "//me:secret@") + "?interval=5s&extra_label=a%3Db&buckets=1,2"
    assert (await _ship(Target(url), file)).rows == 100
    (query, headers, _), *_ = store.requests
    assert query == "extra_label=a%3Db"
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"
    await _ship(Target(store.url.replace("//", "//:token@")), file)
    assert store.requests[-1][1]["Authorization"] == "Bearer token"


async def test_stalls_are_a_histogram_by_cause(tmp_path: Path, store: _Store) -> None:
    rows = [(time.time_ns(), "2.0", "blocking I/O", 4001)]
    files = [publish(tmp_path, 1, rows, prefix="stall")]
    destination = make_destination(Target(store.url))
    await destination.open()
    assert (await destination.ship(shipment(files, "stall"))).rows == 1
    await destination.close()
    body = bytes(cramjam.snappy.decompress_raw(store.requests[-1][2]))
    for text in (b"aqltelemetry_worker_stall_seconds_bucket", b"blocking I/O", b"30.0"):
        assert text in body


async def test_a_store_that_fails_for_now_gets_the_same_shipment_later(
    tmp_path: Path, store: _Store
) -> None:
    file = publish(tmp_path, 1)
    for answer in ((503, "busy"), (429, "too many")):
        store.answers = [(204, ""), answer]
        with pytest.raises(Unavailable, match=answer[1]):
            await _ship(Target(store.url), file)
    await _ship(Target(store.url), file)
    bodies = [body for _, _, body in store.requests if len(body) > 10]
    assert len(set(bodies)) == 1


async def test_a_store_that_does_not_exist_is_unavailable(free_port: Callable[[], int]) -> None:
    destination = make_destination(Target(f"remote-write+http://127.0.0.1:{free_port()}/"))
    with pytest.raises(Unavailable):
        await destination.open()
    await destination.close()


async def test_wrong_credentials_are_an_error_without_them(store: _Store) -> None:
    store.answers = [(401, "who are you?")]
    destination = make_destination(Target(store.url.replace("//", "//me:secret@")))
    with pytest.raises(DestinationError, match="answers 401: who are you") as error:
        await destination.open()
    await destination.close()
    assert "secret" not in str(error.value)


async def test_a_file_that_the_store_refuses_is_set_aside_and_still_counts_later(
    tmp_path: Path, store: _Store
) -> None:
    files = [publish(tmp_path, 1), publish(tmp_path, 2)]
    (tmp_path / "x").mkdir()
    damaged = publish(tmp_path / "x", 3)
    Path(damaged.path).write_bytes(b"Timepoint,Measurement,Label,PID\nx,y,z,1\n")
    store.answers = [(204, ""), (400, "out of bounds")]
    destination = make_destination(Target(store.url))
    await destination.open()
    receipt = await destination.ship(shipment([*files, damaged]))
    await destination.close()
    assert receipt.rows == 100
    assert set(receipt.refused) == {files[0].name, damaged.name}
    assert receipt.refused[files[0].name] == "out of bounds"
    assert len(receipt.notes) == 2


async def test_nothing_is_sent_of_a_shipment_one_of_whose_files_is_gone(
    tmp_path: Path, store: _Store
) -> None:
    files = [publish(tmp_path, 1), publish(tmp_path, 2)]
    Path(files[1].path).unlink()
    destination = make_destination(Target(store.url))
    await destination.open()
    with pytest.raises(FileGone):
        await destination.ship(shipment(files))
    await destination.close()
    assert len(store.requests) == 1


async def test_what_a_store_has_already_is_found_by_sending_smaller_parts(
    tmp_path: Path, store: _Store
) -> None:
    file = publish(tmp_path, 1, [(time.time_ns(), "0.5", "query", 4001)])
    await _ship(Target(store.url), file)
    usual = len(store.requests)
    store.requests.clear()
    store.answers = [(204, ""), (400, "out of order sample")]
    receipt = await _ship(Target(store.url), file)
    assert (receipt.rows, receipt.refused) == (1, {})
    assert len(store.requests) == usual + 2


@pytest.mark.parametrize(
    "query", ["interval=0", "interval=x", "interval=2h", "buckets=1,1", "buckets=x"]
)
def test_wrong_options_are_reported(query: str) -> None:
    with pytest.raises(OptionError, match=query.split("=", maxsplit=1)[0]):
        make_destination(Target(f"remote-write+http://127.0.0.1:9/?{query}"))


@pytest.fixture
def engine(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    free_port: Callable[[], int],
    debian_package: Callable[[str, str], Path],
) -> Iterator[Engine]:
    home = tmp_path / "engine"
    if request.param == "prometheus":
        window = {"storage": {"tsdb": {"out_of_order_time_window": "1d"}}}
        with prometheus(debian_package, free_port(), home, window) as engine:
            yield engine
    elif request.param == "prometheus in order":
        with prometheus(debian_package, free_port(), home) as engine:
            yield engine
    else:
        arguments = ["-dedup.minScrapeInterval=1ms"]
        with victoria_metrics(debian_package, free_port(), home, arguments) as engine:
            yield engine


def _published(directory: Path, choose: random.Random) -> list[ShippedFile]:
    """Write the files of three recordings, which follow on each other."""
    start_ns = time.time_ns() - 1_500 * _S
    return [
        _file(directory, 0xA0 + writer, part, start_ns + part * 60 * _S, choose)
        for writer in range(3)
        for part in range(3)
    ]


def _file(
    directory: Path, writer: int, part: int, start_ns: int, choose: random.Random
) -> ShippedFile:
    """Write 200 rows of a minute."""
    rows: list[Row] = [
        (
            start_ns + round(choose.uniform(0, 60) * _S),
            f"{choose.expovariate(10):.9f}",
            choose.choice(_LABELS),
            writer,
        )
        for _ in range(200)
    ]
    folder = directory / f"{writer}-{part}"
    folder.mkdir()
    path = Path(publish(folder, part, rows).path)
    times = enclosing(min(row[0] for row in rows), max(row[0] for row in rows))
    name = FileName("duration", *times, writer, f"{writer:016x}", part + 1, part + 1, 0)
    return ShippedFile(str(name), str(path.rename(folder / str(name))))


@pytest.mark.system
@pytest.mark.parametrize(
    "engine", ["victoria-metrics", "prometheus", "prometheus in order"], indirect=True
)
async def test_the_store_has_the_totals_of_the_files_however_often_they_are_sent(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = random.Random(7)
    files = _published(tmp_path, choose)
    url = f"remote-write+{engine.url}/api/v1/write"
    destination = make_destination(Target(url, Origin(host="h1", service="orders")))
    await destination.open()
    notes: dict[str, str] = {}
    for at in range(0, len(files), 2):
        planned = replace(shipment(files[at : at + 2]), notes=dict(notes))
        receipts = [await destination.ship(planned) for _ in range(choose.choice((1, 2)))]
        assert all(
            each.refused == {} and each.rows == len(planned.files) * 200 for each in receipts
        )
        assert len({str(each.notes) for each in receipts}) == 1
        notes |= receipts[-1].notes
    rows = rows_of(files)
    count = Counter(label for _, _, label, _, _ in rows)
    await asyncio.to_thread(_check, engine, rows, count)
    assert isinstance(destination, RemoteWrite)
    assert await destination.check_totals(notes) == []
    monkeypatch.setattr("aqltelemetry.shipping.destinations.remote_write._VISIBLE_S", ())
    (note, *_) = notes.values()
    (difference, *_) = await destination.check_totals({"duration other": note})
    assert difference.endswith(" here, and not there")
    await destination.close()


def _check(
    engine: Engine, rows: list[tuple[int, float, str, int, str]], count: Counter[str]
) -> None:
    def last(metric: str, by: str) -> str:
        return f'sum by ({by}) (last_over_time({metric}{{service="orders",host="h1"}}[1h]))'

    engine.wait_for(last(f"{_REQUESTS}_count", "route"), {("/a",): count["/a [GET]"]})
    engine.wait_for(
        last("aqltelemetry_request_errors_total", "status"), {("5xx",): count["/a [GET] 5xx"]}
    )
    engine.wait_for(
        last("aqltelemetry_block_failures_total", "block"), {("query",): count["query failed"]}
    )
    values = [value for _, value, label, _, _ in rows if label == "/a [GET]"]
    buckets = engine.query(last(f"{_REQUESTS}_bucket", "le"))
    assert {math.inf if le == "+Inf" else float(le): found for (le,), found in buckets.items()} == {
        bound: sum(value <= bound for value in values) for bound in DEFAULT_BOUNDS
    }
    (total,) = engine.query(last(f"{_REQUESTS}_sum", "route")).values()
    assert total == pytest.approx(sum(values))
    writers = engine.query(last(f"{_REQUESTS}_count", "writer"))
    assert writers == Counter((writer,) for _, _, label, _, writer in rows if label == "/a [GET]")
