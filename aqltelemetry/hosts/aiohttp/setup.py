"""Records the requests of an aiohttp application, while it runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeAlias, Unpack

from aiohttp import web

from aqltelemetry.errors import AlreadySetUpError, StateError
from aqltelemetry.hosts.aiohttp.labels import route_templates
from aqltelemetry.hosts.aiohttp.request_record import time_requests
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
    """Record each request of an aiohttp application, while it runs.

        app = web.Application()
        setup(app, "_monitoring")
        web.run_app(app)

    Call it once for the outermost application, before that starts; the requests of its
    sub-applications are recorded with it.

    Parameters:
        app: The application.
        monitoring_dir: The directory for the CSV files; by default that of the environment
            variable AQLTELEMETRY_DIR, else `_monitoring`.
        with_ttfb: Whether to record the time until each response begins.
        template: Names the route of a request where aiohttp's route is not the one you want: a
            function of the `web.Request`, called when its response begins or the request has
            failed, or its name as `"module:function"`. Where it returns None or "", aiohttp's
            route is used. An exception in it is logged once, and the request is recorded as
            `unmatched`. By default the environment variable AQLTELEMETRY_TEMPLATE may name one.
        **options: Those of `aqltelemetry.settings.Settings`, such as `keep_bytes="2g"`.

    Recorded, in seconds, where `/users/{id}` is the template of the route that matched:

    - `/users/{id} [GET]`: from the request's head being read until the last byte of the
      response is given to the transport
    - `/users/{id} [GET] ttfb`: the time to the head of the response,
      unless `with_ttfb=False`
    - `/users/{id} [GET] 4xx`, `... 5xx`, `... disconnect`: the total time once more, if the
      response has such a status, or if the client went away or the request was cancelled
    - `/ws [GET] websocket`: the whole life of a websocket; its `... ttfb` ends with the handshake
    - `/events [GET] events`: the whole life of a `text/event-stream` that is not returned whole
    - `unmatched`: instead of template and method, where no route matches
    - `other [GET]`: routes beyond the first 1,000 of a process
    - `/users/{id} [OTHER]`: methods other than the nine of HTTP

    The number of requests in progress is sampled as `requests in flight`.

    The recording starts and stops with the application. If a monitor runs in the process already,
    that one records the requests. If the recording can't be started, one line is logged and the
    application is served unrecorded. What handlers raise passes through.

    Raises:
        OptionError: For a wrong directory, template or option.
        AlreadySetUpError: For an application that was set up before.
        StateError: For an application that was started before.
        WrongApplicationError: For an object that is not an application of aiohttp's.
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
    recording.routes = partial(route_templates, app)
    # The first context, so that what the other contexts do is recorded too.
    app.cleanup_ctx.insert(0, _record)
    time_requests(
        app,
        recording.in_flight,
        with_ttfb=with_ttfb,
        template=chosen,
        with_cpu_time=recording.with_cpu_time,
    )


async def _record(app: web.Application) -> AsyncIterator[None]:
    recording = app[_RECORDING]
    await recording.start()
    yield
    await recording.stop()
