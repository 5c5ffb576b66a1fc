"""Exceptions, compiled modules and recordings for the tests of requests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import pytest

from aqltelemetry.journal.reader import read_segment
from aqltelemetry.journal.writer import Writer
from aqltelemetry.recording import in_flight, recorder
from aqltelemetry.system.extensions import VARIABLE, have_extensions
from fakes import memory_segments, recording, writer_options


def _forbidden() -> BaseException:
    # Tests of the core run without it.
    from aiohttp import web

    return web.HTTPForbidden(text="no")


RAISED: dict[str, Callable[[], BaseException]] = {
    "bug": lambda: ValueError("bug"),
    "gone": lambda: ConnectionResetError("gone"),
    "cancelled": asyncio.CancelledError,
    "exit": SystemExit,
    "forbidden": _forbidden,
}
"""Exceptions to raise during a request, by name."""


def raise_named(what: object) -> None:
    """Raise the exception of that name in `RAISED`, if there is one."""
    if what in RAISED:
        exc = RAISED[str(what)]()
        raise exc


def compiled_twin(name: str) -> ModuleType:
    """Return a compiled twin of a request's way, which has to be in use."""
    if have_extensions():
        return import_module(f"aqltelemetry.{name}")
    if os.environ.get(VARIABLE):
        pytest.skip("this run is of the modules in Python")
    reason = "needs the extension modules, which a C compiler makes at the installation"
    if os.environ.get("AQLTELEMETRY_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def recorded() -> Iterator[list[tuple[str, int]]]:
    """Record into a segment, with slots for the requests in flight.

    At the end, yield the labels of the segment with the number of values of each.
    """
    (segment,) = memory_segments(1)
    session, _ = recording(segment)
    recorder.install(session)
    in_flight.install(Writer.in_memory(writer_options()).make_in_flight(0, 0, ""))
    found: list[tuple[str, int]] = []
    try:
        yield found
    finally:
        recorder.remove(session)
        in_flight.install(None)
        batch = read_segment(segment.map[:], recovered=False, yield_gil=lambda: None).batch
        found += sorted((column.series.label, len(column.values)) for column in batch.columns)
