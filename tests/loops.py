"""An event loop on a thread of its own, as a recording without a running loop has one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from aqltelemetry.system.threads import start_thread

_LIMIT_S = 30.0


def call_on_own_loop(work: Callable[[], object]) -> None:
    """Call a function while an event loop runs on a thread that no application sees."""
    ended = threading.Event()

    async def main() -> None:
        work()

    def run() -> None:
        try:
            asyncio.run(main())
        finally:
            ended.set()

    start_thread(run, "aqltelemetry-test-loop")
    assert ended.wait(_LIMIT_S)
