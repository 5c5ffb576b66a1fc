"""Records the requests of a WSGI application, on any server and any thread."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

from aqltelemetry.hosts.kinds import WSGI, check_kind
from aqltelemetry.hosts.labels import WSGI_MIDDLEWARE_EXISTS, safe_template
from aqltelemetry.hosts.lifecycle import HostRecording, log_failed_start
from aqltelemetry.hosts.templates import chosen_template, with_fallback
from aqltelemetry.hosts.wsgi.request_record import Application, Template
from aqltelemetry.hosts.wsgi.routes import WsgiRoutes, route_templates
from aqltelemetry.runtime import background
from aqltelemetry.settings import Options
from aqltelemetry.stalls.sampler import watch_threads
from aqltelemetry.system.extensions import choose
from aqltelemetry.system.loop_thread import import_ahead

if TYPE_CHECKING:
    from aqltelemetry.hosts.wsgi.request_record import RecordedApplication
else:
    RecordedApplication = choose("aqltelemetry.hosts.wsgi.request_record").RecordedApplication


class TelemetryMiddleware(RecordedApplication):
    """Record each request of a WSGI application.

        app = TelemetryMiddleware(app, "_monitoring")

    With Flask, `app.wsgi_app = TelemetryMiddleware(app.wsgi_app)` does the same and keeps `app` a
    `Flask`.

    Parameters:
        app: The WSGI application to wrap; `TelemetryMiddleware` is one too.
        monitoring_dir: The directory for the CSV files; by default that of the environment
            variable AQLTELEMETRY_DIR, else `_monitoring`.
        with_ttfb: Whether to record the time to the first byte of each response.
        template: Names the route of a request where the framework's route is unknown or not the
            one you want: a function of the WSGI environment, called when the response begins, or
            its name as `"module:function"`. Where it returns None or "", the framework's route is
            used. An exception in it is logged once, and the request is recorded as `unmatched`.
            By default the environment variable AQLTELEMETRY_TEMPLATE may name one.
        **options: Those of `aqltelemetry.settings.Settings`, such as `keep_bytes="2g"`.

    Recorded, in seconds, where `/users/{id}` is the template of the route that matched:

    - `/users/{id} [GET]`: from the call of the application until the body of the response is closed
    - `/users/{id} [GET] ttfb`: the time to the first chunk of the body that is not empty,
      unless `with_ttfb=False`
    - `/users/{id} [GET] 4xx`, `... 5xx`, `... disconnect`: the total time once more, if the
      response has such a status, or if the client went away or the request was cancelled
    - `/events [GET] events`: the whole life of a `text/event-stream`
    - `unmatched`: instead of template and method, where no route matches
    - `other [GET]`: routes beyond the first 1,000 of a process
    - `/users/{id} [OTHER]`: methods other than the nine of HTTP

    The number of requests in progress is sampled as `requests in flight`.

    The recording starts with a process's first request, so after any fork, runs on its own thread,
    and ends with the process. If a monitor runs in the process already, that one records the
    requests. If the recording can't be started, one line is logged and the application is served
    unrecorded. What the application raises passes through.

    Raises:
        OptionError: For a wrong directory, template or option.
        WrongApplicationError: For an ASGI or aiohttp application.
    """

    def __init__(
        self,
        app: Application,
        monitoring_dir: str | os.PathLike[str] | None = None,
        *,
        with_ttfb: bool = True,
        template: Template | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_kind(app, WSGI)
        self._recording = HostRecording(monitoring_dir, options)
        chosen = chosen_template(template)
        routes = WsgiRoutes(app)
        routes.look()
        super().__init__(
            app,
            safe_template(with_fallback(chosen, routes.template)),
            self._recording.in_flight,
            with_ttfb=with_ttfb,
            by_rule=chosen is None,
            with_cpu_time=self._recording.with_cpu_time,
        )
        self.routes = routes
        self._recording.routes = partial(route_templates, routes)
        if not WSGI_MIDDLEWARE_EXISTS:
            WSGI_MIDDLEWARE_EXISTS.append(TelemetryMiddleware)
        _MIDDLEWARES.add(self)
        # The first request may come after the main thread has ended, when nothing can be imported.
        import_ahead()

    def get_ready(self) -> None:
        """Start the recording in this process."""
        self.start_recording()
        self.is_ready = True

    def start_recording(self) -> None:
        """Start the recording in this process, unless one runs."""
        with log_failed_start():
            # To compare process ids at each request would take a system call each time.
            background.when_forked(_forked)
        # Concurrent threads wait in `start`, which fails for all but one because it runs already.
        # No lock here, since it could be held while the process forks.
        self._recording.start_on_thread()
        watch_threads()


_MIDDLEWARES: WeakSet[TelemetryMiddleware] = WeakSet()


def _forked() -> None:
    for middleware in _MIDDLEWARES:
        middleware.is_ready = False
