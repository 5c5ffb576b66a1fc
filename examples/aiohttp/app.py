"""An aiohttp service that is recorded."""

import asyncio

from aiohttp import web

from aqltelemetry import time_block
from aqltelemetry.aiohttp import setup


async def user(request: web.Request) -> web.Response:
    """Answer after a while, which is timed by itself."""
    async with time_block("db query"):
        await asyncio.sleep(0.002)
    return web.json_response({"user": request.match_info["user"]})


app = web.Application()
app.router.add_get("/users/{user}", user)
setup(app, "_monitoring")
