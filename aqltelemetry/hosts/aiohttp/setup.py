"""The aiohttp host: one line that has every request of an application recorded.

setup(app, "_monitoring")
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias, Unpack

from aiohttp import web

from aqltelemetry.errors import AlreadySetUpError, StateError
from aqltelemetry.hosts.aiohttp.requests import time_requests
from aqltelemetry.hosts.kinds import require_aiohttp
from aqltelemetry.hosts.lifecycle import HostRecording
from aqltelemetry.hosts.templates import chosen_template
from aqltelemetry.settings import Options

Template: TypeAlias = Callable[[web.Request], str | None]
_RECORDING = web.AppKey("aqltelemetry", HostRecording)


def setup(
    app: web.Application,
    monitoring_dir: str | os.PathLike[str] | None = None,
    *,
    with_ttfb: bool = True,
    template: Template | str | None = None,
    **options: Unpack[Options],
) -> None:
    """Record the application's requests while it runs, by a monitor of its own.

    Each request is one duration, from the moment its head was read to the last
    byte of the response handed to the transport, labelled with its route's
    template: `/users/{id} [GET]`; for what is recorded besides see
    `aqltelemetry.hosts.exchange`. `with_ttfb` says whether the time until the response
    begins is recorded too. If another monitor runs in the process, that one
    records. If the recording can't be started with the application, an error
    is logged and the application runs unrecorded. Requests are those of the
    outermost application, to be set up before it starts; those of its
    sub-applications are among them.

    `template` names the route of a request where aiohttp's is not what is wanted: a
    function of the request, called when its response begins or it has failed, or the name of
    one, `module:function`. Where that returns None or "", aiohttp's route is used; what
    it raises is logged once, and the request is unmatched. Without it, the environment
    variable AQLTELEMETRY_TEMPLATE may name one.

    Raises OptionError, StateError for an application that has been set up or started
    before, and WrongApplicationError for one that is not aiohttp's.
    """
    require_aiohttp(app, web.Application)
    recording = HostRecording(monitoring_dir, options)
    if _RECORDING in app:
        raise AlreadySetUpError
    if app.frozen:
        msg = "setup must be called before the application starts"
        raise StateError(msg)
    chosen = chosen_template(template)
    app[_RECORDING] = recording
    # First of all, so that what other contexts do is recorded too.
    app.cleanup_ctx.insert(0, _record)
    time_requests(app, recording.in_flight, with_ttfb=with_ttfb, template=chosen)


async def _record(app: web.Application) -> AsyncIterator[None]:
    recording = app[_RECORDING]
    await recording.start()
    yield
    await recording.stop()
