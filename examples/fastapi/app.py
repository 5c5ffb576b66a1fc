"""A FastAPI service that is recorded."""

import asyncio

from fastapi import FastAPI

from aqltelemetry import time_block
from aqltelemetry.asgi import TelemetryMiddleware

app = FastAPI()
app.add_middleware(TelemetryMiddleware, monitoring_dir="_monitoring")


@app.get("/users/{user}")
async def get_user(user: str) -> dict[str, str]:
    """Answer after a while, which is timed by itself."""
    async with time_block("db query"):
        await asyncio.sleep(0.002)
    return {"user": user}
