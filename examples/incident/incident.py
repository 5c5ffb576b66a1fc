"""A service with two faults: its 99th percentile rises, then a worker is killed.

Starts two workers under Gunicorn and sends them orders. After three seconds exports begin. One
worker renders them on its event loop and keeps them in memory. While it renders the last one it
is killed by SIGKILL, as the kernel does when memory runs out. Then the service stops.
"""

import asyncio
import itertools
import os
import signal
import socket
import sys
from contextlib import suppress

import aiohttp
from aiohttp import web

from aqltelemetry import time_block, time_it
from aqltelemetry.aiohttp import setup

ROWS = 1_000_000
EXPORTS = 5
CACHE: list[list[str]] = []


@time_it(label="render export")
def render() -> list[str]:
    """Return the lines of a table."""
    return [f"{row};{row * 7 % 13}" for row in range(ROWS)]


async def order(request: web.Request) -> web.Response:
    """Answer after 80 ms, which stand for a call of another service."""
    async with time_block("payment api"):
        await asyncio.sleep(0.08)
    return web.json_response({"order": request.match_info["id"]})


async def export(_: web.Request) -> web.Response:
    """Render all rows. The faults: it does so on the event loop, and the cache only grows."""
    CACHE.append(render())
    return web.json_response({"worker": os.getpid()})


async def create_app() -> web.Application:
    """Return the application. Gunicorn calls this in each worker."""
    app = web.Application()
    app.router.add_get("/orders/{id}", order)
    app.router.add_post("/exports", export)
    setup(app, "_monitoring")
    return app


async def send_orders(url: str, stop: asyncio.Event) -> None:
    """Send orders until `stop` is set, each on a new connection: to whichever worker is free."""
    async with aiohttp.ClientSession(url, headers={"Connection": "close"}) as session:
        for number in itertools.count():
            with suppress(aiohttp.ClientError):  # the worker was killed
                async with session.get(f"/orders/{number}") as response:
                    await response.read()
            if stop.is_set():
                return
            await asyncio.sleep(0.04)


async def send_exports(url: str) -> None:
    """Request exports of one worker, and kill it during the last one."""
    async with aiohttp.ClientSession(url) as session:
        for _ in range(EXPORTS):
            async with session.post("/exports") as response:
                worker = (await response.json())["worker"]
            await asyncio.sleep(1)
        last = asyncio.create_task(session.post("/exports"))
        await asyncio.sleep(0.05)
        os.kill(worker, signal.SIGKILL)
        await asyncio.wait([last])
        last.exception()  # the connection was lost, as it has to be


async def main() -> None:
    """Run the service and its clients."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = "gunicorn incident:create_app --workers 2 --log-level critical"
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command.split(), "--bind", f"fd://{listening.fileno()}"),
            *("--worker-class", "aiohttp.GunicornWebWorker"),
            pass_fds=[listening.fileno()],
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for _ in range(20):
                clients.create_task(send_orders(url, stop))
            await asyncio.sleep(3)
            await send_exports(url)
            await asyncio.sleep(1)
            stop.set()
        server.send_signal(signal.SIGTERM)
        await server.wait()


if __name__ == "__main__":
    asyncio.run(main())
