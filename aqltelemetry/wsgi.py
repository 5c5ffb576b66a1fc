"""The WSGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Flask, Django, and whatever else speaks WSGI, on any server and any thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from aqltelemetry import sync
from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.exchange import InFlight
from aqltelemetry.request_labels import ANSWERING, ASKED, TEMPLATE, RequestLabels, guarded
from aqltelemetry.routes import wsgi_template
from aqltelemetry.settings import Options, settings
from aqltelemetry.twins import IS_COMPILED
from aqltelemetry.wsgi_answers import Application, Environ, StartResponse, Template

if TYPE_CHECKING or not IS_COMPILED:
    from aqltelemetry.wsgi_answers import Requests
else:
    from aqltelemetry._wsgi_answers import Requests

_log = logging.getLogger("aqltelemetry")


class TelemetryMiddleware:
    """Records each request of a WSGI application, by `aqltelemetry.sync`.

    Recording starts with a process's first request, so after any fork, and ends
    with the process. If a monitor runs there already, that one records. If the
    directory can't be used, an error is logged and the application runs
    unrecorded. A request lasts until the response's body is closed.

    For labels see `aqltelemetry.exchange`; `with_ttfb` says whether the time to the
    first byte is recorded too; `template` returns the route of a request, of its
    WSGI environment, where Flask's and Django's are not what is wanted; what it
    raises is logged, and the request unmatched. Raises OptionError.
    """

    def __init__(
        self,
        app: Application,
        monitoring_dir: str | os.PathLike[str] | None = None,
        *,
        with_ttfb: bool = True,
        template: Template | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings(monitoring_dir, options)
        self._app = app
        in_flight = InFlight()
        self._requests = Requests(
            guarded(template or partial(wsgi_template, app=app)),
            RequestLabels(),
            in_flight,
            with_ttfb=with_ttfb,
            by_rule=template is None,
        )
        options["samplers"] = (*options.get("samplers", ()), in_flight)
        self._directory = monitoring_dir
        if not ASKED:
            ASKED.append(TelemetryMiddleware)
        self._options = options
        self._started_in = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request; whatever the application raises passes through."""
        outer = ANSWERING.get()
        if outer is not None:
            return self._app(environ, self._telling(outer, environ, start_response))
        if self._started_in != os.getpid():
            self._start()
        return self._requests.answer(self._app, environ, start_response)

    def _telling(
        self,
        outer: MutableMapping[str, Any],
        environ: Environ,
        start_response: StartResponse,
    ) -> Callable[..., Any]:
        """Have the ASGI request that this is a part of know the route."""

        def start(*arguments: Any) -> Any:
            template = self._requests.template(environ)
            if template is not None:
                outer[TEMPLATE] = environ.get("SCRIPT_NAME", "") + template
            return start_response(*arguments)

        return start

    def _start(self) -> None:
        # Threads that come at once wait in `start`, where all but one are told that
        # it runs; a lock of our own could be held at a fork.
        try:
            sync.start(self._directory, **self._options)
        except AlreadyRunningError as exc:
            _log.info("requests are recorded by the running monitor, into %s", exc.directory)
        except (TelemetryError, OSError) as exc:
            _log.error("the application runs unrecorded: %s", exc)
        self._started_in = os.getpid()
