"""A Starlette service that is recorded."""

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from aqltelemetry import time_block
from aqltelemetry.asgi import TelemetryMiddleware


async def user(request: Request) -> JSONResponse:
    """Answer after a while, which is timed by itself."""
    async with time_block("db query"):
        await asyncio.sleep(0.002)
    return JSONResponse({"user": request.path_params["user"]})


app = Starlette(
    routes=[Route("/users/{user}", user)],
    middleware=[Middleware(TelemetryMiddleware, monitoring_dir="_monitoring")],
)
