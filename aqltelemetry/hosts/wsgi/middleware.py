"""The WSGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Flask, Django, and whatever else speaks WSGI, on any server and any thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack
from weakref import WeakSet

from aqltelemetry.hosts.kinds import WSGI, check_kind
from aqltelemetry.hosts.labels import ASKED, guarded
from aqltelemetry.hosts.lifecycle import HostRecording, log_failed_start
from aqltelemetry.hosts.templates import chosen_template, with_fallback
from aqltelemetry.hosts.wsgi.answers import Application, Template
from aqltelemetry.hosts.wsgi.routes import WsgiRoutes
from aqltelemetry.runtime import background
from aqltelemetry.settings import Options
from aqltelemetry.system.extensions import HAVE_EXTENSIONS
from aqltelemetry.system.loop_thread import import_ahead

if TYPE_CHECKING or not HAVE_EXTENSIONS:
    from aqltelemetry.hosts.wsgi.answers import Requests
else:
    from aqltelemetry.hosts.wsgi._answers import Requests


class TelemetryMiddleware(Requests):
    """Records each request of a WSGI application, by `aqltelemetry.sync`.

    Recording starts with a process's first request, so after any fork, and ends
    with the process. If a monitor runs there already, that one records. If the
    recording can't be started, an error is logged and the application runs
    unrecorded. A request lasts until the response's body is closed.

    For labels see `aqltelemetry.hosts.exchange`; `with_ttfb` says whether the time to the
    first byte is recorded too.

    `template` names the route of a request where the framework's route is unknown or not
    what is wanted: a function of its environment, called when its response begins, or the
    name of one, `module:function`. Where that returns None or "", the framework's route is
    used; what it raises is logged once, and the request is unmatched. Without it, the
    environment variable AQLTELEMETRY_TEMPLATE may name one.

    Raises OptionError, and WrongApplicationError for an ASGI or aiohttp application.
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
            guarded(with_fallback(chosen, routes.template)),
            self._recording.in_flight,
            with_ttfb=with_ttfb,
            by_rule=chosen is None,
        )
        self.routes = routes
        if not ASKED:
            ASKED.append(TelemetryMiddleware)
        _MADE.add(self)
        # The first request may come after the end of the main thread.
        import_ahead()

    def get_ready(self) -> None:
        """Start to record, in this process."""
        with log_failed_start():
            # To compare process ids at each request would take a system call each time.
            background.when_forked(_forked)
        # Concurrent threads wait in `start`, which fails for all but one because it runs already.
        # No lock here, since it could be held while the process forks.
        self._recording.start_on_thread()
        self.is_ready = True


_MADE: WeakSet[TelemetryMiddleware] = WeakSet()


def _forked() -> None:
    for middleware in _MADE:
        middleware.is_ready = False
