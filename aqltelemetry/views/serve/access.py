"""Decides who may see the page: by the Host header and, where one is needed, by a token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

MIN_TOKEN_CHARS: Final = 16
"""The length below which a token is refused, since it could be guessed."""
_TOKEN_BYTES = 32
_LOCALHOST = "localhost"
_COOKIE = "aqltelemetry"
_BEARER = "Bearer "
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "aqltelemetry",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
NO_CONTENT_POLICY: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page: nothing may be loaded or run."""
_REFRESH = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta http-equiv="refresh" content="0;url={url}"><title>aqltelemetry</title>'
    '<a href="{url}">continue</a></html>'
)


def new_token() -> str:
    """Return a token that can't be guessed."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def is_loopback(host: str) -> bool:
    """Return whether only processes of this machine can connect to an address."""
    if host == _LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask a server.

    Attributes:
        token: What a client has to know; None if every client that can connect may ask.
        names: The host names by which the server may be asked, in addition to `localhost`, this
            machine's name and all numeric addresses. A page of an attacker, whose name was made
            to resolve to this server's address (DNS rebinding), asks by another name.
        cookie: The name of the cookie that holds the token. Cookies do not depend on the port, so
            servers on several ports need several names.
    """

    token: str | None = field(default=None, repr=False)
    names: Collection[str] = ()
    cookie: str = _COOKIE

    @classmethod
    def to_port(cls, token: str | None, host: str, names: Collection[str], port: int) -> Access:
        """Return the access to a server that listens on a port of an address."""
        own = {socket.gethostname(), host, *names}
        return cls(token, frozenset(name.casefold() for name in own), f"{_COOKIE}-{port}")

    def knows_host(self, header: str) -> bool:
        """Return whether a Host header names this server; its port does not matter."""
        try:
            name = urlsplit(f"//{header}").hostname
        except ValueError:
            return False
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == _LOCALHOST or name.casefold() in self.names
        return True

    def is_token(self, given: str | None) -> bool:
        """Return whether a text is the token, in a time that does not depend on the text."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    def is_allowed(self, request: web.Request) -> bool:
        """Return whether a request has the token in its cookie or its Authorization header."""
        header = request.headers.get("Authorization", "")
        bearer = header.removeprefix(_BEARER) if header.startswith(_BEARER) else None
        # Both are compared, whatever comes of the first.
        found = [self.is_token(request.cookies.get(self.cookie)), self.is_token(bearer)]
        return any(found)


def middleware(access: Access) -> Middleware:
    """Return a middleware that refuses requests, and adds the headers that protect the page."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refused = _refusal(access, request)
            response = await handler(request) if refused is None else refused
        except web.HTTPException as exc:
            exc.headers.update(_missing(exc))
            raise
        if not response.prepared:
            response.headers.update(_missing(response))
        return response

    return guarded


def protect(response: web.StreamResponse) -> None:
    """Add the headers to a response that is sent by its handler."""
    response.headers.update(_missing(response))


def _missing(response: web.StreamResponse) -> Mapping[str, str]:
    wanted = {**_HEADERS, "Content-Security-Policy": NO_CONTENT_POLICY}
    return {name: value for name, value in wanted.items() if name not in response.headers}


def _refusal(access: Access, request: web.Request) -> web.Response | None:
    """Return the response to a request that may not be answered, None if it may."""
    if not access.knows_host(request.headers.get("Host", "")):
        text = "this server does not have the name in the Host header; --allow-host adds it\n"
        return web.Response(status=HTTPStatus.MISDIRECTED_REQUEST, text=text)
    if access.token is None:
        return None
    if "token" in request.query:
        return _exchange(access, access.token, request)
    if access.is_allowed(request):
        return None
    return _unauthorized("the token is missing")


def _exchange(access: Access, token: str, request: web.Request) -> web.Response:
    """Move the token of a URL into a cookie, so that it is not in the history of the browser."""
    if not access.is_token(request.query["token"]):
        return _unauthorized("the token is wrong")
    url = str(request.rel_url.with_query([p for p in request.query.items() if p[0] != "token"]))
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        # After a link on another site the browser would not send the cookie to a redirect's target.
        text = _REFRESH.format(url=escape(url))
        response = web.Response(text=text, content_type="text/html")
    else:
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": url})
    response.set_cookie(
        access.cookie,
        token,
        httponly=True,
        samesite="Strict",
        secure=request.secure,
        path="/",
    )
    return response


def _unauthorized(reason: str) -> web.Response:
    text = f"{reason}: open the URL that `aqltelemetry serve` printed\n"
    headers = {"WWW-Authenticate": "Bearer"}
    return web.Response(status=HTTPStatus.UNAUTHORIZED, text=text, headers=headers)
