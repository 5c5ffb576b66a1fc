"""The service of the demo: routes that wait, compute, produce garbage and stream.

One has a fault for the report to find: it calls a function that blocks the event loop.
"""

from __future__ import annotations

import asyncio
import json
import os

from aiohttp import web

from aqltelemetry.aiohttp import setup
from aqltelemetry.recording.recorder import time_block
from aqltelemetry.recording.timed_functions import time_it
from aqltelemetry.system.clock import pause

_CHUNKS = 8
_BLOCKED_S = 0.2


async def create_app() -> web.Application:
    """Return the application; the options of the recording are in the environment."""
    app = web.Application()
    app.router.add_get("/version", _version)
    app.router.add_get("/users/{id}", _user)
    app.router.add_get("/graph/{size}", _graph)
    app.router.add_get("/events", _stream)
    app.router.add_post("/notify", _notify)
    app.router.add_get("/invoices/{id}", _invoice)
    setup(app)
    return app


async def _version(request: web.Request) -> web.Response:
    del request
    return web.json_response({"version": "0.1.0", "pid": os.getpid()})


async def _user(request: web.Request) -> web.Response:
    async with time_block("db query"):
        await asyncio.sleep(0.006)
    return web.json_response({"id": request.match_info["id"]})


async def _graph(request: web.Request) -> web.Response:
    return web.json_response({"nodes": _make_graph(int(request.match_info["size"]))})


@time_it(label="make_graph()")
def _make_graph(size: int) -> int:
    nodes: list[list[object]] = [[] for _ in range(size)]
    for index, node in enumerate(nodes):  # cycles, which the garbage collector must find
        node.append(nodes[index - 1])
    return len(nodes)


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(_CHUNKS):
        await asyncio.sleep(0.001)
        await response.write(f"event {number}\n".encode())
    return response


async def _notify(request: web.Request) -> web.Response:
    with time_block("parse notification"):
        parsed = json.loads(await request.text())
    return web.json_response({"accepted": len(parsed)}, status=201)


async def _invoice(request: web.Request) -> web.Response:
    return web.json_response({"invoice": request.match_info["id"], "pages": _print_invoice()})


@time_it(label="print invoice")
def _print_invoice() -> int:
    """Wait for a printer without asyncio: meanwhile this worker does nothing else."""
    pause(_BLOCKED_S)
    return 1
