"""A stall of a real event loop is recorded with its cause and its line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aqltelemetry import Monitor, TelemetryDB
from aqltelemetry.stalls import causes

pytestmark = pytest.mark.system
_LONG_S = 0.4
_MOST = 10


def _long(directory: Path) -> list[dict[Any, Any]]:
    found = TelemetryDB(directory).stalls()
    return found[found["length_s"] > _LONG_S / 2].to_dict("records")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_sleep_in_a_handler_is_a_blocking_wait(
    directory: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def handler() -> None:
        time.sleep(_LONG_S)

    async def main() -> None:
        async with Monitor(directory, with_stalls=True) as running:
            # On a busy machine the watchdog's threads may have got no processor until the end.
            for _ in range(_MOST):
                await asyncio.create_task(handler(), name="slow")
                await running.flush()
                if _long(directory):
                    break

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    stall, *_ = _long(directory)
    # On a busy machine the thread may be ready to run and get no processor for most of it.
    assert stall["cause"] in {causes.WAIT, causes.STARVED, causes.UNKNOWN}
    if stall["cause"] == causes.WAIT:
        assert (stall["file"], stall["task"]) == (__file__, "slow")
        assert (stall["waits_for"], stall["function"]) == ("sleep", handler.__qualname__)
