"""Notifies browsers of changes by server-sent events.

Specification: https://html.spec.whatwg.org/multipage/server-sent-events.html

A browser gets the number of the newest state, and asks for what it shows. A browser that reads
slowly misses states in between, so nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MAX_CLIENTS = 16
"""How many browsers may be notified at the same time."""
HEARTBEAT = b":\n\n"
"""A comment, which keeps proxies from closing a connection on which nothing happens."""
RETRY = b"retry: 1000\n"
"""Makes a browser ask again a second after the end of a response."""
_HEARTBEAT_S = 15.0


def event(name: str, number: int, data: Mapping[str, Any]) -> bytes:
    """Return an event in the format of server-sent events.

    Its data are one line, since JSON escapes line ends.
    """
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()


class TooManyClientsError(RuntimeError):
    """Raised when no more browsers can be notified."""

    def __init__(self, max_clients: int) -> None:
        super().__init__(f"{max_clients} browsers show this page already: close one of them")


class Subscribers:
    """The browsers that are notified, and the newest state."""

    def __init__(self, max_clients: int = MAX_CLIENTS, heartbeat_s: float = _HEARTBEAT_S) -> None:
        self._max_clients = max_clients
        self._heartbeat_s = heartbeat_s
        self._clients = 0
        self._number = 0
        self._newest = b""
        self._changed = asyncio.Event()
        self._is_closed = False
        self.somebody_looks = asyncio.Event()
        """Set while there are subscribers."""

    @contextmanager
    def subscribed(self) -> Iterator[None]:
        """Count a subscriber during the block; raises TooManyClientsError at the limit."""
        if self._clients >= self._max_clients:
            raise TooManyClientsError(self._max_clients)
        self._clients += 1
        self.somebody_looks.set()
        try:
            yield
        finally:
            self._clients -= 1
            if not self._clients:
                self.somebody_looks.clear()

    def publish(self, number: int, data: Mapping[str, Any]) -> None:
        """Notify all subscribers of a state, which replaces earlier ones."""
        self._number, self._newest = number, event("changed", number, data)
        self._wake()

    def close(self) -> None:
        """End the messages of all subscribers."""
        self._is_closed = True
        self._wake()

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the newest state, each newer one, and a heartbeat where there is none for long."""
        seen = None
        while not self._is_closed:
            if self._newest and self._number != seen:
                seen = self._number
                yield self._newest
                continue
            changed = self._changed
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await changed.wait()
            except TimeoutError:
                yield HEARTBEAT

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
