"""Reads the URL of a destination that is an HTTP endpoint: where to send to, and who sends."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlencode

from aqltelemetry.errors import OptionError
from aqltelemetry.quantities import parse_seconds
from aqltelemetry.shipping.target import Target

SETUP_ERRORS = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    }
)
"""Statuses of an endpoint that can't be used as it is, however often a request is repeated."""
_OWN = frozenset({"buckets", "ca_file", "interval", "query_url", "slow_spans"})
_MIN_S, _MAX_S = 1, 3600


class HttpOptions:
    """What a URL such as `otlp+https://user:password@host/path?interval=1m` says.

    Args:
        target: The target.
        interval: The interval, if the URL has none.

    Attributes:
        url: The URL to send to, without what is not sent.
        headers: The header with the credentials, if there are any.
        own: The options in the query that are not sent.
        interval_ms: The interval of samples, in milliseconds.
        ca_file: The file with the certificates that are trusted; None for those of the system.

    Raises:
        OptionError: The interval is wrong, or `ca_file` can't be used.
    """

    def __init__(self, target: Target, interval: str) -> None:
        parts = target.parts
        query = dict(parse_qsl(parts.query))
        self.own: Mapping[str, str] = {name: query.pop(name) for name in _OWN & query.keys()}
        self.interval_ms = _interval_ms(self.own.get("interval", interval))
        self.ca_file = self.own.get("ca_file")
        tls_context(self.ca_file)
        self.headers: dict[str, str] = {}
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user:
            text = b64encode(f"{user}:{password}".encode()).decode()
            self.headers["Authorization"] = f"Basic {text}"
        elif password:
            self.headers["Authorization"] = f"Bearer {password}"
        plain = parts._replace(
            scheme=parts.scheme.rpartition("+")[2],
            netloc=parts.netloc.rpartition("@")[2],
            query=urlencode(query),
            fragment="",
        )
        self.url = plain.geturl()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts these certificates, or those of the system if it is None.

    Raises:
        OptionError: The file can't be read, or contains no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        rule = f"must be a file with certificates: {exc.strerror or exc}"
        raise OptionError("ca_file", ca_file, rule) from exc


def _interval_ms(text: str) -> int:
    try:
        seconds = parse_seconds(text)
    except ValueError:
        seconds = 0.0
    if not _MIN_S <= seconds <= _MAX_S:
        raise OptionError("interval", text, "must be a time from 1s to 1h")
    return round(seconds * 1000)
