"""A TCP proxy that fails on purpose: it drops, delays, truncates and swallows."""

from __future__ import annotations

import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PASS, REFUSE, DROP, DELAY, TRUNCATE, SWALLOW = MODES = (
    *("pass", "refuse", "drop", "delay", "truncate", "swallow"),
)
"""What a proxy does: pass all on; close all connections; close some, half of those that wait for
the answer to a commit; wait before each piece; close some after a part of a piece; pass nothing."""
BEFORE, COMMIT, ANSWER, CARRIED = "before", "commit", "answer", "carried"
"""What a proxy sees: the piece with which the server gets all that it needs to store a shipment,
before and after it is passed on; the answer that it is stored; any piece for the server."""
_PIECE_BYTES = 1 << 16
_DELAY_S = 0.02
_CUTS = 0.02
_LOST_ANSWERS = 0.5
# Of PostgreSQL, ClickHouse and remote write: the request that stores rows, and its answer.
_COMMIT = b"COMMIT;"
_HEADS = (b"insert_deduplication_token=", b"POST /api/v1/write")
_CONFIRMS = (b"COMMIT\0", b"HTTP/1.1 20")
_POLL_S = 0.05


class Proxy:
    """Passes connections to `port` on to `target_port` of this machine; `mode` may be changed."""

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.mode = PASS
        self.target_port = target_port
        self.cut = 0
        """The number of connections that were closed on purpose."""
        self.answers_lost = 0
        """How many of them were closed instead of passing on that a shipment is stored."""
        self.seen: Callable[[str], object] = lambda _: None
        """Called with what was seen, on the thread of the connection, which waits for it; if it
        returns a true value for `BEFORE`, the connection is closed instead."""
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
        exchange = _Exchange()
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            for each in (client, server):
                each.settimeout(10)
                # Else small pieces wait for what the other side acknowledges after 40 ms.
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
                    if not piece:
                        return
                    seen = exchange.request(piece) if source is client else exchange.answer(piece)
                    if COMMIT in seen and self.seen(BEFORE):
                        return
                    if not self._pass_on(piece, other, is_answer=ANSWER in seen):
                        return
                    for event in seen:
                        self.seen(event)

    def _pass_on(self, piece: bytes, other: socket.socket, *, is_answer: bool) -> bool:
        mode = self.mode
        if mode == DELAY:
            time.sleep(_DELAY_S)
        share = _LOST_ANSWERS if is_answer and mode == DROP else _CUTS
        if mode in {DROP, TRUNCATE} and self._random.random() < share:
            self.cut += 1
            self.answers_lost += is_answer
            if mode == TRUNCATE:
                other.sendall(piece[: self._random.randrange(len(piece))])
            return False
        other.sendall(piece)
        return True


class _Exchange:
    """Finds in the pieces of a connection where a shipment is stored."""

    def __init__(self) -> None:
        self._has_head = False
        self._is_sent = False

    def request(self, piece: bytes) -> tuple[str, ...]:
        """Return what is seen with a piece for the server."""
        is_head = any(text in piece for text in _HEADS)
        body = piece.partition(b"\r\n\r\n")[2] if is_head else piece
        is_commit = _COMMIT in piece or ((is_head or self._has_head) and bool(body))
        self._has_head = is_head and not is_commit
        self._is_sent |= is_commit
        return (CARRIED, COMMIT) if is_commit else (CARRIED,)

    def answer(self, piece: bytes) -> tuple[str, ...]:
        """Return what is seen with a piece for the client."""
        if not (self._is_sent and any(text in piece for text in _CONFIRMS)):
            return ()
        self._is_sent = False
        return (ANSWER,)


@contextmanager
def proxy(target_port: int, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy."""
    made = Proxy(target_port, seed)
    try:
        yield made
    finally:
        made.close()
