from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aqltelemetry import Monitor, TelemetryDB, time_block
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.serve.access import Access
from aqltelemetry.views.serve.application import Views
from aqltelemetry.views.serve.events import Subscribers
from aqltelemetry.views.serve.recording import Recording

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(five_requests: Path) -> AsyncIterator[Client]:
    views = Views(
        Recording(lambda: TelemetryDB(five_requests), max_age_s=0, share=1e9),
        Access(),
        "the title",
        Subscribers(max_clients=2),
        interval_s=0.01,
    )
    async with TestClient(TestServer(views.application)) as client:
        yield client


async def _json(client: Client, url: str, status: int = 200) -> Any:
    async with client.get(url) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def test_the_report_is_that_of_the_command(client: Client, five_requests: Path) -> None:
    expected = document(TelemetryDB(five_requests), Options(top=300, slowest=50))
    assert await _json(client, "/report.json") == expected
    assert (await _json(client, "/report.json?top=1"))["durations"] == expected["durations"][:1]
    assert "must be" in (await _json(client, "/report.json?top=-1", 400))["error"]


async def test_strips_have_the_bins_that_were_asked_for(client: Client) -> None:
    found = await _json(client, "/strips?bins=7")
    assert sum(found["routes"][0]["count"]) == 5
    assert 1 <= found["bins"] <= 7


@pytest.mark.parametrize(
    "query", ["bins=0", "bins=100000", "begin=x", "end=-1", "begin=5&end=4", "begin=nan"]
)
async def test_a_bad_window_is_refused_with_its_reason(client: Client, query: str) -> None:
    found = await _json(client, f"/strips?{query}", 400)
    assert "must be" in found["error"]


async def test_other_paths_and_methods_are_refused(client: Client) -> None:
    async with client.get("/../../etc/passwd") as response:
        assert response.status == 404
    async with client.post("/report.json") as response:
        assert response.status == 405


async def test_the_page_has_a_policy_of_its_own(client: Client) -> None:
    async with client.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert response.content_type == "text/html"
        assert "<title>the title" in await response.text()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


async def _next_event(response: Any) -> dict[str, Any]:
    name = (await response.content.readline()).decode()
    assert name == "event: changed\n"
    await response.content.readline()
    data = (await response.content.readline()).decode()
    await response.content.readline()
    loaded: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return loaded


async def test_an_event_follows_each_change(client: Client, five_requests: Path) -> None:
    async with asyncio.timeout(30), client.get("/events") as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert await _next_event(response) == {"observations": 5, "strips": 1, "report": 0}
        async with Monitor(five_requests, with_runtime=False), time_block("/b [GET]"):
            pass
        assert await _next_event(response) == {"observations": 6, "strips": 2, "report": 0}


async def test_one_browser_more_than_the_limit_is_refused(client: Client) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            response = await stack.enter_async_context(client.get("/events"))
            assert response.status == 200
        found = await _json(client, "/events", 503)
    assert found == {"error": "2 browsers show this page already: close one of them"}


async def test_a_directory_that_was_removed_is_reported(
    client: Client, five_requests: Path
) -> None:
    await _json(client, "/report.json")
    for path in five_requests.iterdir():
        path.unlink()
    five_requests.rmdir()
    assert "must exist" in (await _json(client, "/report.json", 503))["error"]


async def test_a_browser_that_does_not_read_is_disconnected(five_requests: Path) -> None:
    subscribers = Subscribers()
    recording = Recording(lambda: TelemetryDB(five_requests))
    views = Views(recording, Access(), "title", subscribers, stalled_s=0.01)
    async with TestServer(views.application) as server:
        _reader, writer = await asyncio.open_connection(server.host, server.port, limit=1)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(30):
            await subscribers.somebody_looks.wait()
            number = 10
            while subscribers.somebody_looks.is_set():
                number += 1
                subscribers.publish(number, {"text": "x" * 100_000})
                await asyncio.sleep(0)
        writer.close()
