"""Runs the server of `aqltelemetry serve` until it is interrupted."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable, Collection
from typing import NamedTuple
from urllib.parse import quote

from aiohttp import web

from aqltelemetry.errors import TelemetryError
from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.views.serve.access import Access, is_loopback
from aqltelemetry.views.serve.application import Views
from aqltelemetry.views.serve.recording import Recording

_ANY = ("0.0.0.0", "::", "")  # noqa: S104 - compared with
_SHUTDOWN_S = 2.0


class ListenError(TelemetryError, OSError):
    """Raised when the server can't listen on its address."""


class Address(NamedTuple):
    """Where a server listens, and who may ask it."""

    host: str
    """A name or a numeric address of this machine."""
    port: int
    """0 for any free port."""
    token: str | None
    """What clients have to know; None if all that can connect may ask."""
    names: Collection[str] = ()
    """Further names by which it may be asked."""


def serve(
    load: Callable[[], TelemetryDB],
    title: str,
    address: Address,
    ready: Callable[[str], None],
    extend: Callable[[web.Application], object] | None = None,
) -> None:
    """Serve a recording until SIGINT or SIGTERM.

    Args:
        load: Opens the recording.
        title: The title of the page until its data are there.
        address: Where to listen.
        ready: Called with the URL once the server listens.
        extend: Called with the application before it starts, to add routes.

    Raises:
        ListenError: The address can't be used.
    """
    asyncio.run(_serve(load, title, address, ready, extend))


async def _serve(
    load: Callable[[], TelemetryDB],
    title: str,
    address: Address,
    ready: Callable[[str], None],
    extend: Callable[[web.Application], object] | None,
) -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    listening = _listen(address.host, address.port)
    port = listening.getsockname()[1]
    access = Access.to_port(address.token, address.host, address.names, port)
    application = Views(Recording(load), access, title).application
    if extend is not None:
        extend(application)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        ready(url(address, port))
        await interrupted.wait()
    finally:
        await runner.cleanup()


def url(address: Address, port: int) -> str:
    """Return the URL of the page, with the token if there is one."""
    host = address.host
    if host in _ANY:
        host = socket.gethostname()
    elif ":" in host:
        host = f"[{host}]"
    query = f"?token={quote(address.token)}" if address.token else ""
    return f"http://{host}:{port}/{query}"


def needs_token(host: str) -> bool:
    """Return whether other machines can connect to an address."""
    return not is_loopback(host)


def _listen(host: str, port: int) -> socket.socket:
    try:
        kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=kind, flags=flags)[0]
        is_both = family == socket.AF_INET6 and host in _ANY
        return socket.create_server(address, family=family, dualstack_ipv6=is_both)
    except socket.gaierror as exc:
        raise ListenError(f"{host!r} is no address of this machine: {exc.strerror}") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            msg = f"port {port} of {host} is in use; --port 0 chooses a free one"
        else:
            msg = f"can't listen on port {port} of {host}: {os.strerror(exc.errno or 0)}"
        raise ListenError(msg) from exc
