"""Reads what is new while somebody looks, and notifies the browsers."""

from __future__ import annotations

import asyncio

from aqltelemetry.errors import TelemetryError
from aqltelemetry.system.logs import log
from aqltelemetry.views.serve.events import Subscribers
from aqltelemetry.views.serve.recording import Recording

INTERVAL_S = 0.25
"""How often the refresher asks for what is new. The recording decides when it reads."""


async def refresh_while_looked_at(
    recording: Recording, subscribers: Subscribers, interval_s: float = INTERVAL_S
) -> None:
    """Refresh until cancelled, while there are subscribers."""
    failed = ""
    while True:
        await subscribers.somebody_looks.wait()
        try:
            state = await asyncio.wrap_future(recording.state())
            subscribers.publish(state.number, state._asdict())
            failed = ""
        except (TelemetryError, OSError) as exc:
            # Such as a directory that was removed, and may come back.
            if failed != (failed := str(exc)):
                log.warning("the recording can't be read: %s", exc)
            subscribers.publish(-1, {"error": str(exc)})
        await asyncio.sleep(interval_s)
