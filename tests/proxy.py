"""A TCP proxy that fails on purpose: it drops, delays, truncates and swallows."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PASS, REFUSE, DROP, DELAY, TRUNCATE, SWALLOW = MODES = (
    *("pass", "refuse", "drop", "delay", "truncate", "swallow"),
)
"""What a proxy does: pass all on; close all connections; close some, half of those that wait for
the answer to a commit; wait before each piece; close some after a part of a piece; pass nothing."""
_PIECE_BYTES = 1 << 16
_DELAY_S = 0.02
_CUTS = 0.02
_LOST_ANSWERS = 0.5
# Of PostgreSQL and HTTP: the answer after which the client knows that its rows are stored.
_CONFIRMS = (b"COMMIT\0", b"HTTP/1.1 200")
_POLL_S = 0.05


class Proxy:
    """Passes connections to `port` on to `target_port` of this machine; `mode` may be changed."""

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.mode = PASS
        self.target_port = target_port
        self.cut = 0
        """The number of connections that were closed on purpose."""
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections."""
        self._ended.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        self._listener.settimeout(_POLL_S)
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._threads = [each for each in self._threads if each.is_alive()]
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.mode == REFUSE:
                self.cut += 1
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                return
            with server, suppress(OSError):
                self._pump(client, server)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        """Pass bytes on in both directions until one side or the mode ends it."""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            for each in (client, server):
                each.settimeout(10)
            while not self._ended.is_set():
                if self.mode == SWALLOW:
                    time.sleep(_POLL_S)
                    continue
                if self.mode == REFUSE:
                    self.cut += 1
                    return
                for key, _ in selector.select(_POLL_S):
                    source, other = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    piece = source.recv(_PIECE_BYTES)
                    if not piece or not self._pass_on(piece, other):
                        return

    def _pass_on(self, piece: bytes, other: socket.socket) -> bool:
        mode = self.mode
        if mode == DELAY:
            time.sleep(_DELAY_S)
        is_answer = any(text in piece for text in _CONFIRMS)
        share = _LOST_ANSWERS if is_answer and mode == DROP else _CUTS
        if mode in {DROP, TRUNCATE} and self._random.random() < share:
            self.cut += 1
            if mode == TRUNCATE:
                other.sendall(piece[: self._random.randrange(len(piece))])
            return False
        other.sendall(piece)
        return True


@contextmanager
def proxy(target_port: int, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy."""
    made = Proxy(target_port, seed)
    try:
        yield made
    finally:
        made.close()
