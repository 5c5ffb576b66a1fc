"""Ports for servers of tests that can't listen on a socket which is given to them."""

from __future__ import annotations

import random
import socket

_PORTS = range(10_000, 32_768)
"""Below those that Linux gives to clients' connections, of which tests make many."""
_TRIES = 100


def free_port() -> int:
    """Return a port that nobody listens on now."""
    # Not `random`'s own numbers, which Hypothesis sets to the same start in each process.
    for port in random.SystemRandom().sample(_PORTS, _TRIES):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
