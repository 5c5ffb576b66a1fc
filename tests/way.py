"""The way of an observation: the functions of the package that move it, in their order.

Its bytes are moved when a record is packed, a segment or a row is handed to a thread or a queue,
a file is read, written, linked or removed, or rows are parsed. The way consists of the functions
that are being called at such a moment. With `--all` it has every function that is called in the
meantime, also for what is done at the same time: accounts, spare segments, retention.

Run it to see the way, in pure Python: `python tests/way.py [--all]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

MOVES = {
    *("pack_into", "unpack_from", "iter_unpack", "put", "put_nowait", "call_soon_threadsafe"),
    *("read", "readv", "preadv", "write", "link", "unlink", "read_csv"),
}
"""Functions, most of them built in, that move bytes of an observation."""


class Way:
    """Collects functions of a package, in the order of their first calls.

    With `is_whole` these are all that are called, otherwise only those that are being called
    when one of `MOVES` is.
    """

    def __init__(self, package: str, *, is_whole: bool) -> None:
        self._package = package
        self._is_whole = is_whole
        self.functions: dict[str, None] = {}
        self.is_on = False

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Add the functions of a call; a profile function for `threading.setprofile`."""
        if not self.is_on or event not in ("call", "c_call"):
            return
        if self._is_whole:
            if event == "call":
                self._add(frame)
            return
        called = argument if event == "c_call" else frame.f_code
        name = getattr(called, "__name__", None) or getattr(called, "co_name", None)
        if name in MOVES:
            self._add_callers(frame)

    def _add_callers(self, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        for each in reversed(stack):
            self._add(each)

    def _add(self, frame: FrameType) -> None:
        code, module = frame.f_code, str(frame.f_globals.get("__name__"))
        inside = f"{self._package}."
        # Neither a module nor a comprehension is a function.
        if module.startswith(inside) and not code.co_name.startswith("<"):
            self.functions.setdefault(f"{module.removeprefix(inside)}: {code.co_qualname}")

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


async def follow(directory: str, *, is_whole: bool) -> Way:
    """Record a block, publish and read it, and return the way of its observation."""
    way = Way("aqltelemetry", is_whole=is_whole)
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="show all functions that are called")
    is_whole = parser.parse_args().all
    with tempfile.TemporaryDirectory() as directory:
        way = asyncio.run(follow(str(Path(directory) / "monitoring"), is_whole=is_whole))
    lines = [*way.functions]
    modules = {line.partition(":")[0] for line in lines}
    sys.stdout.write("\n".join(lines))
    sys.stdout.write(f"\n{len(lines)} functions of {len(modules)} modules\n")


if __name__ == "__main__":
    main()
