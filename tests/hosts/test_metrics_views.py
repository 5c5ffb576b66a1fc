from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aqltelemetry import Monitor, time_block
from aqltelemetry.aiohttp import add_metrics_route
from aqltelemetry.asgi import TelemetryMetrics
from aqltelemetry.errors import OptionError, WrongApplicationError
from aqltelemetry.hosts import views_process
from servers import wait_until


@pytest.fixture(autouse=True)
def short_life(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process of a test ends soon, and no two tests share one."""
    monkeypatch.setattr(views_process, "_UNSCRAPED_S", 2.0)
    with tempfile.TemporaryDirectory(prefix="views") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield
        wait_until(lambda: not _waits_for_a_process(), "the process has ended")


def _waits_for_a_process() -> bool:
    return any(each.name == "aqltelemetry-views-process" for each in threading.enumerate())


async def _asgi(app: TelemetryMetrics, **scope: Any) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    start = {"type": "http", "method": "GET", "path": "/metrics", "headers": []}
    await app({**start, **scope}, receive, send)
    headers = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


@pytest.mark.parametrize("buckets", [[], [1, 1], [2, 1], [0.0], [-1, 1]])
def test_wrong_buckets_are_refused(buckets: list[float]) -> None:
    with pytest.raises(OptionError, match="ascending"):
        TelemetryMetrics(buckets=buckets)
    with pytest.raises(OptionError, match="ascending"):
        add_metrics_route(web.Application(), buckets=buckets)


def test_wrong_paths_and_applications_are_refused() -> None:
    with pytest.raises(OptionError, match="slash"):
        add_metrics_route(web.Application(), "metrics")
    with pytest.raises(WrongApplicationError):
        add_metrics_route(object())  # type: ignore[arg-type]


async def test_only_get_is_answered() -> None:
    status, _, _ = await _asgi(TelemetryMetrics(), method="POST")
    assert status == 405


@pytest.mark.system
async def test_an_asgi_application_answers_scrapes(directory: Path) -> None:
    async with Monitor(directory):
        app = TelemetryMetrics(directory, buckets=[0.5])
        accept = [(b"accept", b"application/openmetrics-text; version=1.0.0")]
        status, headers, body = await _asgi(app, headers=accept)
        assert status == 200
        assert headers["content-type"].startswith("application/openmetrics-text")
        assert b"aqltelemetry_workers 1.0" in body
        async with time_block("job"):
            pass
        # A header that could not be sent on is replaced.
        status, headers, body = await _asgi(app, headers=[(b"accept", b"a\r\nX: 1")])
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
        assert b'block_duration_seconds_bucket{block="job",le="0.5"} 1.0' in body
