from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aqltelemetry.views.metrics.routes import add_metrics
from aqltelemetry.views.serve.access import Access, middleware

Client = TestClient[web.Request, web.Application]
_TOKEN = "a token of enough characters"


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    directory.mkdir()
    application = web.Application(middlewares=[middleware(Access(_TOKEN))])
    add_metrics(application, [str(directory)])
    async with TestClient(TestServer(application)) as client:
        yield client


async def test_metrics_need_the_token_where_the_page_needs_it(client: Client) -> None:
    async with client.get("/metrics") as response:
        assert response.status == 401
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    async with client.get("/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Encoding"] in ("gzip", "deflate")
        assert "aqltelemetry_workers 0.0" in await response.text()


async def test_another_name_in_the_host_header_is_refused(client: Client) -> None:
    headers = {"Authorization": f"Bearer {_TOKEN}", "Host": "attacker.example"}
    async with client.get("/metrics", headers=headers) as response:
        assert response.status == 421


async def test_a_directory_that_is_gone_is_reported(client: Client, directory: Path) -> None:
    directory.rmdir()
    async with client.get("/metrics", headers={"Authorization": f"Bearer {_TOKEN}"}) as response:
        assert response.status == 503
        assert str(directory) in await response.text()
