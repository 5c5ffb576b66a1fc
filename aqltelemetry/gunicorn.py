"""Record the requests of each Gunicorn worker, whatever its application is.

    gunicorn -c python:aqltelemetry.gunicorn app:app

Or, at the end of a configuration file, which may have hooks of its own:

    aqltelemetry_dir = "_monitoring"

    from aqltelemetry.gunicorn import extend

    extend(globals())
"""

from __future__ import annotations

from aqltelemetry.hosts.gunicorn import (
    extend,
    post_request,
    post_worker_init,
    pre_request,
    worker_exit,
)

__all__ = ("extend", "post_request", "post_worker_init", "pre_request", "worker_exit")
