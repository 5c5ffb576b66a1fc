"""The way of an observation: the functions of the package that it passes, in their order.

Run it to see the way, in pure Python: `python tests/way.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

Profile = Callable[[FrameType, str, Any], None]


class Way:
    """Collects the functions of a package that are called, in the order of their first calls."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._inside = f"{os.sep}{package}{os.sep}"
        self.functions: dict[str, None] = {}
        self.is_on = False

    def profile(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call; a profile function for `threading.setprofile`."""
        code = frame.f_code
        if self.is_on and event == "call" and self._inside in code.co_filename:
            name = str(frame.f_globals.get("__name__"))
            if not code.co_name.startswith("<"):  # a module, a comprehension, a lambda
                self.functions.setdefault(
                    f"{name.removeprefix(self._package + '.')}: {code.co_qualname}"
                )

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Collect the functions called by this thread, and by threads started with the profile."""
        self.is_on = True
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.is_on = False


async def follow(directory: str) -> Way:
    """Record a block, publish and read it, and return the way of its observation."""
    way = Way("aqltelemetry")
    threading.setprofile(way.profile)
    from aqltelemetry import Monitor, TelemetryDB, time_block

    async with Monitor(directory, with_runtime=False) as monitor:
        with time_block("before"):  # so that what a process does once is not counted
            pass
        await monitor.flush()
        with way.followed():
            with time_block("block"):
                pass
            await monitor.flush()
    threading.setprofile(None)
    with way.followed():
        frame = TelemetryDB(directory).duration().time_series("block").data()
    if len(frame) != 1:
        raise AssertionError(frame)
    return way


def main() -> None:
    """Print the way, one function a line."""
    if os.environ.get("AQLTELEMETRY_NO_EXTENSIONS") != "1":
        os.environ["AQLTELEMETRY_NO_EXTENSIONS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as directory:
        way = asyncio.run(follow(str(Path(directory) / "monitoring")))
    lines = [*way.functions]
    modules = [line.partition(":")[0] for line in lines]
    sys.stdout.write("\n".join(lines))
    sys.stdout.write(f"\n{len(lines)} functions of {len({*modules})} modules\n")


if __name__ == "__main__":
    main()
