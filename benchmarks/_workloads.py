"""Small workloads on the public interface, each a process that prints one figure.

`compare.py` runs them on two revisions: `python _workloads.py NAME DIRECTORY`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

BLOCKS = 200_000
REQUESTS = 20_000
ROUND_TRIPS = 4_000
ROWS = 1_000_000
LABELS = 50


def block(directory: str) -> float:
    """Return the nanoseconds of a `with` block."""
    from aqltelemetry import sync, time_block

    sync.start(directory)
    started_ns = time.perf_counter_ns()
    for _ in range(BLOCKS):
        with time_block("block"):
            pass
    taken_ns = time.perf_counter_ns() - started_ns
    sync.stop()
    return taken_ns / BLOCKS


def async_block(directory: str) -> float:
    """Return the nanoseconds of an `async with` block."""
    from aqltelemetry import Monitor, time_block

    async def main() -> float:
        async with Monitor(directory):
            started_ns = time.perf_counter_ns()
            for _ in range(BLOCKS):
                async with time_block("block"):
                    pass
            return (time.perf_counter_ns() - started_ns) / BLOCKS

    return asyncio.run(main())


def sink(directory: str) -> float:
    """Return the nanoseconds of processor time for an observation, until it is in a file."""
    from aqltelemetry import Monitor, record

    async def main() -> float:
        async with Monitor(directory, with_runtime=False) as monitor:
            started_ns = time.process_time_ns()
            for at in range(BLOCKS):
                record(f"value {at % LABELS}", at)
                if at % 10_000 == 0:
                    await asyncio.sleep(0)
            await monitor.flush()
            return (time.process_time_ns() - started_ns) / BLOCKS

    return asyncio.run(main())


def asgi(directory: str) -> float:
    """Return the nanoseconds of a request to a recorded ASGI application without a server."""
    from aqltelemetry import Monitor
    from aqltelemetry.asgi import TelemetryMiddleware

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(_message: Any) -> None:
        return

    async def main() -> float:
        async with Monitor(directory):
            timed = TelemetryMiddleware(app)
            started_ns = time.perf_counter_ns()
            for _ in range(REQUESTS):
                scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
                await timed(scope, receive, send)
            return (time.perf_counter_ns() - started_ns) / REQUESTS

    return asyncio.run(main())


def wsgi(directory: str) -> float:
    """Return the nanoseconds of a request to a recorded WSGI application without a server."""
    from aqltelemetry import sync
    from aqltelemetry.wsgi import TelemetryMiddleware

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    def start_response(_status: str, _headers: Any, _exc: Any = None) -> Callable[..., Any]:
        return print

    sync.start(directory)
    timed = TelemetryMiddleware(app)
    started_ns = time.perf_counter_ns()
    for _ in range(REQUESTS):
        body = timed({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, start_response)
        for _chunk in body:
            pass
        getattr(body, "close", int)()
    taken_ns = time.perf_counter_ns() - started_ns
    sync.stop()
    return taken_ns / REQUESTS


def aiohttp(directory: str) -> float:
    """Return the nanoseconds of a round trip to a recorded aiohttp server in the same process."""
    from aiohttp import web

    from aqltelemetry.aiohttp import setup

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text="x")

    async def main() -> float:
        app = web.Application()
        app.router.add_get("/", handler)
        setup(app, directory)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        reader, writer = await asyncio.open_connection(host, port)
        started_ns = time.perf_counter_ns()
        for _ in range(ROUND_TRIPS):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nx")
        taken_ns = time.perf_counter_ns() - started_ns
        writer.close()
        await runner.cleanup()
        return taken_ns / ROUND_TRIPS

    return asyncio.run(main())


def loading(_directory: str) -> float:
    """Return the nanoseconds of a row that `TelemetryDB` loads."""
    from aqltelemetry import TelemetryDB

    directory = recorded_rows()
    started_ns = time.perf_counter_ns()
    rows = len(TelemetryDB(directory).frame("custom").data())
    taken_ns = time.perf_counter_ns() - started_ns
    if rows < ROWS:
        raise AssertionError(rows)
    return taken_ns / rows


def importing(_directory: str) -> float:
    """Return the nanoseconds that `import aqltelemetry` takes."""
    started_ns = time.perf_counter_ns()
    import aqltelemetry  # noqa: F401 - its import is measured

    return time.perf_counter_ns() - started_ns


def recorded_rows() -> str:
    """Return the directory of a million rows, which is made once."""
    directory = Path(sys.argv[2]).parent / "rows"
    if not directory.exists():
        from aqltelemetry import Monitor, record

        async def main() -> None:
            async with Monitor(directory, with_runtime=False) as monitor:
                for at in range(ROWS):
                    record(f"value {at % LABELS}", at)
                    if at % 10_000 == 0:
                        await monitor.flush()

        asyncio.run(main())
    return str(directory)


WORKLOADS: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {
        "with time_block": block,
        "async with time_block": async_block,
        "record, to a CSV file": sink,
        "ASGI request": asgi,
        "WSGI request": wsgi,
        "aiohttp round trip": aiohttp,
        "TelemetryDB, a row": loading,
        "import aqltelemetry": importing,
    }
)

if __name__ == "__main__":
    print(WORKLOADS[sys.argv[1]](sys.argv[2]))
