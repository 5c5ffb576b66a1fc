"""Records servers and frameworks without a change to the program, below `aqltelemetry run`.

Servers accept applications of any kind, and frameworks run on servers of any kind: a request that
passes both is recorded once. Options come from the environment.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MethodType, ModuleType
from typing import Any

from aqltelemetry.autostart.aqltelemetry_autostart import HOSTS
from aqltelemetry.errors import AlreadySetUpError
from aqltelemetry.hosts.lifecycle import log_failed_start
from aqltelemetry.hosts.tracebacks import keep_first_frame
from aqltelemetry.observation import RUNTIME, Measurement
from aqltelemetry.protocols import Append
from aqltelemetry.runtime import background
from aqltelemetry.samplers.event_loop import EventLoopSampler
from aqltelemetry.system.threads import start_natively


def patch(module: ModuleType) -> None:
    """Patch a module of `HOSTS`, which was just imported, so that its requests are recorded."""
    kind, name = HOSTS[module.__name__]
    PATCHES[kind](module, name)


def record_program() -> bool:
    """Record this process until it starts its own recording; return whether that succeeded."""
    start_natively()
    watch = _LoopWatch()
    watch.install()
    is_recorded = False
    with log_failed_start("program"):
        background.start_automatically(samplers=[watch])
        is_recorded = True
    return is_recorded  # noqa: RET504 - what is raised is logged


class _LoopWatch:
    """Measures the lag of the event loops that the program runs."""

    prefix = RUNTIME
    interval_s: float | None = None

    def __init__(self) -> None:
        self._append: Append | None = None
        self._samplers: list[EventLoopSampler] = []

    def install(self) -> None:
        """Observe each event loop that `asyncio.run` runs."""
        run = asyncio.Runner.run

        @functools.wraps(run)
        def run_observed(runner: asyncio.Runner, *arguments: Any, **keywords: Any) -> Any:
            sampler = EventLoopSampler()
            runner.get_loop().call_soon(self._add, sampler)
            try:
                return run(runner, *arguments, **keywords)
            finally:
                self._remove(sampler)

        asyncio.Runner.run = run_observed  # type: ignore[method-assign, assignment]

    async def sample(self) -> Sequence[Measurement]:
        """Return nothing: lags are appended when they are observed."""
        return ()

    def attach(self, append: Append) -> None:
        """Start to observe."""
        self._append = append

    def detach(self) -> None:
        """Stop observing."""
        self._append = None
        while self._samplers:
            # A timer must not be cancelled from another thread: this one does nothing when it
            # runs next.
            self._samplers.pop().mute()

    def _add(self, sampler: EventLoopSampler) -> None:
        if self._append is not None:
            sampler.attach(self._append)
            self._samplers.append(sampler)

    def _remove(self, sampler: EventLoopSampler) -> None:
        sampler.detach()
        if sampler in self._samplers:
            self._samplers.remove(sampler)


class _Wrapped:
    """Wraps each application that is called, once."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self._wrap = wrap
        # By the ids of the applications, which are unique only while the applications live.
        self._known: dict[int, tuple[object, Any]] = {}

    def __call__(self, app: object, call: Callable[..., Any]) -> Any:
        known = self._known.get(id(app))
        if known is None:
            made: Any = MethodType(call, app)
            with log_failed_start():
                made = self._wrap(made)
            known = self._known.setdefault(id(app), (app, made))
        return known[1]


def _patch_asgi(module: ModuleType, name: str) -> None:
    kind = getattr(module, name)
    call = kind.__call__
    wrapped = _Wrapped(_asgi)

    @functools.wraps(call)
    async def timed(app: object, scope: Any, receive: Any, send: Any) -> None:
        try:
            await wrapped(app, call)(scope, receive, send)
        except BaseException as exc:
            keep_first_frame(exc)
            raise

    kind.__call__ = timed


def _patch_wsgi(module: ModuleType, name: str) -> None:
    kind = getattr(module, name)
    call = kind.__call__
    wrapped = _Wrapped(_wsgi)

    @functools.wraps(call)
    def timed(app: object, environ: Any, start_response: Any) -> Any:
        try:
            return wrapped(app, call)(environ, start_response)
        except BaseException as exc:
            keep_first_frame(exc)
            raise

    kind.__call__ = timed


def _asgi(app: Any) -> Any:
    from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware  # noqa: PLC0415 - one kind of host needs it

    return TelemetryMiddleware(app)


def _wsgi(app: Any) -> Any:
    from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware  # noqa: PLC0415 - as above

    return TelemetryMiddleware(app)


def _patch_aiohttp(module: ModuleType, name: str) -> None:
    runner_class = getattr(module, name)
    make = runner_class.__init__

    @functools.wraps(make)
    def init(runner: Any, app: Any, *arguments: Any, **keywords: Any) -> None:
        make(runner, app, *arguments, **keywords)
        from aqltelemetry.hosts.aiohttp.setup import setup  # noqa: PLC0415 - as above

        # An application that has called `setup` itself is recorded already.
        with log_failed_start(), suppress(AlreadySetUpError):
            setup(app)

    runner_class.__init__ = init


def _patch_uvicorn(module: ModuleType, name: str) -> None:
    config_class = getattr(module, name)
    load = config_class.load

    @functools.wraps(load)
    def load_wrapped(config: Any) -> None:
        load(config)
        # In a WSGI application behind uvicorn's adapter, the framework is patched instead.
        if config.interface != "wsgi":
            with log_failed_start():
                config.loaded_app = _asgi(config.loaded_app)

    config_class.load = load_wrapped


def _patch_gunicorn(module: ModuleType, name: str) -> None:
    worker_class = getattr(module, name)
    load = vars(worker_class).get("load_wsgi")
    if load is None:  # the method of the base class is patched
        return

    @functools.wraps(load)
    def load_wrapped(worker: Any) -> None:
        load(worker)
        from aqltelemetry.hosts.gunicorn import post_worker_init  # noqa: PLC0415 - as above

        post_worker_init(worker)

    worker_class.load_wsgi = load_wrapped


def _patch_gunicorn_master(module: ModuleType, name: str) -> None:
    from aqltelemetry.hosts.parents import patch_gunicorn  # noqa: PLC0415 - as above

    patch_gunicorn(getattr(module, name))


def _patch_uvicorn_parent(module: ModuleType, name: str) -> None:
    process_class = getattr(module, name, None)
    if process_class is not None:  # versions before 0.30 have another one
        from aqltelemetry.hosts.parents import patch_uvicorn  # noqa: PLC0415 - as above

        patch_uvicorn(process_class)


PATCHES: Mapping[str, Callable[[ModuleType, str], None]] = {
    "aiohttp": _patch_aiohttp,
    "ASGI": _patch_asgi,
    "WSGI": _patch_wsgi,
    "Gunicorn": _patch_gunicorn,
    "Gunicorn's master": _patch_gunicorn_master,
    "Uvicorn": _patch_uvicorn,
    "Uvicorn's parent": _patch_uvicorn_parent,
}
"""The function that patches a class of a module, by the kind of host."""
