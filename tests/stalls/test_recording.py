"""A stall of a real event loop is recorded with its cause and its line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.stalls import causes

pytestmark = pytest.mark.system
_LONG_S = 0.4


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_sleep_in_a_handler_is_a_blocking_wait(
    directory: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def handler() -> None:
        time.sleep(_LONG_S)

    async def main() -> None:
        async with Monitor(directory, with_stalls=True) as running:
            await asyncio.sleep(0)
            await asyncio.create_task(handler(), name="slow")
            await running.flush()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    found = TelemetryDB(directory).stalls()
    found = found[found["length_s"] > _LONG_S / 2]
    (stall,) = found.to_dict("records")
    # On a busy machine the thread may be ready to run and get no processor for most of it.
    assert stall["cause"] in {causes.WAIT, causes.STARVED, causes.UNKNOWN}
    if stall["cause"] == causes.WAIT:
        assert (stall["file"], stall["task"]) == (__file__, "slow")
        assert (stall["waits_for"], stall["function"]) == ("sleep", handler.__qualname__)
