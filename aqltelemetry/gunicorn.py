"""The Gunicorn host: `gunicorn -c python:aqltelemetry.gunicorn app:app`.

Or, in a configuration of one's own:

    from aqltelemetry.gunicorn import post_worker_init, worker_exit

Each worker's application is wrapped once it is loaded, after the fork: as an
aiohttp, ASGI or WSGI application, by the kind of the worker. Not by Gunicorn's
own hooks for requests, since some workers never call them, and none waits for
the body. Options are environment variables, AQLTELEMETRY_DIR and so on.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aqltelemetry import sync
from aqltelemetry.errors import NotRunningError, StateError

__all__ = ("post_worker_init", "worker_exit")

_log = logging.getLogger("aqltelemetry")


def post_worker_init(worker: Any) -> None:
    """Have a worker's requests recorded; where that fails, it works unrecorded."""
    try:
        _wrap(worker)
    except Exception as exc:  # noqa: BLE001 - a worker boots, whatever befalls its telemetry
        _log.error("the worker runs unrecorded: %s", exc)


def worker_exit(server: object, worker: object) -> None:
    """Publish what a worker recorded, where its exit comes by here."""
    del server, worker
    try:
        sync.stop()
    except NotRunningError:
        pass
    except Exception as exc:  # noqa: BLE001 - as above
        _log.error("the recording could not be stopped: %s", exc)


def _wrap(worker: Any) -> None:
    packages = {each.__module__.split(".")[0] for each in type(worker).__mro__}
    if hasattr(worker, "asgi"):
        worker.asgi = _asgi(worker.asgi)
    elif "aiohttp" in packages:
        worker.wsgi = _aiohttp(worker.wsgi)
    elif packages & {"uvicorn", "uvicorn_worker"}:
        worker.wsgi = _asgi(worker.wsgi)
    else:
        from aqltelemetry.wsgi import TelemetryMiddleware  # noqa: PLC0415 - of one kind of worker

        worker.wsgi = TelemetryMiddleware(worker.wsgi)


def _asgi(app: Any) -> Any:
    from aqltelemetry.asgi import TelemetryMiddleware  # noqa: PLC0415 - as above

    return TelemetryMiddleware(app)


def _aiohttp(app: Any) -> Any:
    from aqltelemetry.aiohttp import setup  # noqa: PLC0415 - as above

    def set_up(made: Any) -> Any:
        try:
            setup(getattr(made, "app", made))
        except StateError as exc:  # it does so itself
            _log.debug("%s", exc)
        return made

    if not inspect.iscoroutinefunction(app):
        return set_up(app)
    make: Callable[[], Awaitable[Any]] = app

    async def make_and_set_up() -> Any:
        return set_up(await make())

    return make_and_set_up
