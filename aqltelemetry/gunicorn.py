"""Record the requests of each Gunicorn worker, whatever the kind of its application.

Use it as the configuration:

    gunicorn -c python:aqltelemetry.gunicorn app:app

Or extend a configuration file at its end, which may have its own hooks:

    aqltelemetry_dir = "_monitoring"

    from aqltelemetry.gunicorn import extend

    extend(globals())

The application of a worker is wrapped after the fork as an aiohttp, ASGI or WSGI application,
depending on the class of the worker. The labels are those of `aqltelemetry.aiohttp.setup`,
`aqltelemetry.asgi.TelemetryMiddleware` or `aqltelemetry.wsgi.TelemetryMiddleware`:
`/users/{id} [GET]` is the time of a request in seconds, `... ttfb` the time to the first byte,
`... 4xx`, `... 5xx` and `... disconnect` the times of those that failed, and `unmatched` that of
requests which no route answers.

The options are those of these three, as variables of the configuration that begin with
`aqltelemetry_`: `aqltelemetry_dir` is the monitoring directory, `aqltelemetry_with_ttfb = False`
leaves out the time to the first byte, `aqltelemetry_template` names a function as
`"module:function"`, and `aqltelemetry_interval_s` and so on are those of
`aqltelemetry.settings.Settings`. What is not set is taken from the environment:
AQLTELEMETRY_DIR, AQLTELEMETRY_INTERVAL_S and so on. A wrong variable raises `OptionError`, which
stops Gunicorn before it serves. If a recording can't be started, one line is logged and the
worker serves unrecorded.
"""

from __future__ import annotations

from aqltelemetry.hosts.gunicorn import (
    child_exit,
    extend,
    post_request,
    post_worker_init,
    pre_request,
    worker_exit,
)

__all__ = ("child_exit", "extend", "post_request", "post_worker_init", "pre_request", "worker_exit")
