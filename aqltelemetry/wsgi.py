"""The WSGI host: `app = TelemetryMiddleware(app, "_monitoring")`.

For Flask, Django, and whatever else speaks WSGI, on any server and any thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from aqltelemetry import sync
from aqltelemetry.errors import AlreadyRunningError, TelemetryError
from aqltelemetry.recorder import is_on
from aqltelemetry.request_labels import ANSWERING, ASKED, RECORDED_BY, TEMPLATE, guarded
from aqltelemetry.routes import wsgi_template
from aqltelemetry.settings import Options, settings
from aqltelemetry.twins import IS_COMPILED
from aqltelemetry.wsgi_answers import Environ, Requests, Template

if TYPE_CHECKING or not IS_COMPILED:
    from aqltelemetry.wsgi_answers import Answer
else:
    from aqltelemetry._wsgi_answers import Answer

_log = logging.getLogger("aqltelemetry")
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


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
        self._requests = Requests(guarded(template or partial(wsgi_template, app=app)), with_ttfb)
        options["samplers"] = (*options.get("samplers", ()), self._requests.in_flight)
        self._directory = monitoring_dir
        if not ASKED:
            ASKED.append(TelemetryMiddleware)
        self._options = options
        self._started_in = 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a request; whatever the application raises passes through."""
        outer = ANSWERING.get()
        if outer is not None:
            return self._app(environ, self._telling(outer, environ, start_response))
        if self._started_in != os.getpid():
            self._start()
        # Within another one of its kind, only the outer one records.
        if not is_on() or environ.setdefault(RECORDED_BY, self) is not self:
            return self._app(environ, start_response)
        answer = Answer(self._requests, environ, start_response)
        try:
            return answer.watched(self._app(environ, answer.start))
        except BaseException:
            answer.fail()
            raise

    def _telling(
        self,
        outer: MutableMapping[str, Any],
        environ: Environ,
        start_response: Callable[..., Any],
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
