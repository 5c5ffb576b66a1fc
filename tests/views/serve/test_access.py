from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from aqltelemetry.views.serve.access import Access, is_loopback, middleware, new_token

TOKEN = "a token that is long enough"


@asynccontextmanager
async def _client(who: Access) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=[middleware(who)])

    async def seen(_request: web.Request) -> web.Response:
        return web.Response(text="seen")

    app.router.add_get("/", seen)
    app.router.add_get("/report.json", seen)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    ("header", "is_known"),
    [
        *(("localhost", True), ("localhost:8765", True), ("LOCALHOST", True)),
        *(("127.0.0.1:8765", True), ("[::1]:8765", True), ("192.0.2.7", True)),
        *(("server.example", True), ("Server.Example:80", True)),
        *(("attacker.example", False), ("localhost.attacker.example", False)),
        *(("127.0.0.1.attacker.example", False), ("", False), ("[::1", False), (":80", False)),
        ("localhost@attacker.example", False),
    ],
)
def test_only_names_of_the_server_and_numeric_addresses_are_known(
    header: str, is_known: bool
) -> None:
    assert Access(None, {"server.example"}).knows_host(header) is is_known


async def test_a_request_under_an_unknown_name_is_refused() -> None:
    async with _client(Access()) as client:
        async with client.get("/", headers={"Host": "attacker.example"}) as response:
            assert response.status == 421
            assert "seen" not in await response.text()
        async with client.get("/") as response:
            assert await response.text() == "seen"


@pytest.mark.parametrize("path", ["/", "/report.json", "/missing"])
async def test_without_the_token_nothing_is_seen(path: str) -> None:
    async with _client(Access(TOKEN)) as client, client.get(path) as response:
        assert response.status == 401
        assert await response.text() == (
            "the token is missing: open the URL that `aqltelemetry serve` printed\n"
        )


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", "é"])
async def test_a_wrong_token_is_refused_wherever_it_is(wrong: str) -> None:
    async with _client(Access(TOKEN)) as client:
        async with client.get("/", params={"token": wrong}) as response:
            assert response.status == 401
            assert "Set-Cookie" not in response.headers
        client.session.cookie_jar.update_cookies({"aqltelemetry": wrong})
        async with client.get("/", headers={"Authorization": f"Bearer {wrong}"}) as response:
            assert response.status == 401


async def test_the_token_of_a_url_moves_into_a_cookie() -> None:
    async with _client(Access(TOKEN, cookie="aqltelemetry-1")) as client:
        query = {"token": TOKEN, "bins": "5"}
        async with client.get("/", params=query, allow_redirects=False) as response:
            assert response.status == 303
            assert response.headers["Location"] == "/?bins=5"
            cookie = response.cookies["aqltelemetry-1"]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        async with client.get("/") as response:
            assert await response.text() == "seen"


async def test_after_a_link_on_another_site_the_browser_goes_on_by_itself() -> None:
    async with _client(Access(TOKEN)) as client:
        headers = {"Sec-Fetch-Site": "cross-site"}
        async with client.get("/", params={"token": TOKEN}, headers=headers) as response:
            assert response.status == 200
            assert 'http-equiv="refresh" content="0;url=/"' in await response.text()
            assert "Set-Cookie" in response.headers


async def test_a_program_gives_the_token_in_a_header() -> None:
    async with _client(Access(TOKEN)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with client.get("/report.json", headers=headers) as response:
            assert await response.text() == "seen"


async def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr("hmac.compare_digest", lambda *pair: compared.append(pair))
    assert not Access(TOKEN).is_token("x")
    assert compared == [(b"x", TOKEN.encode())]


@pytest.mark.parametrize("path", ["/", "/missing"])
async def test_every_response_has_the_headers_that_protect_it(path: str) -> None:
    async with _client(Access()) as client, client.get(path) as response:
        assert (
            dict(response.headers).items()
            >= {
                "Cache-Control": "no-store",
                "Content-Security-Policy": (
                    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
                ),
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            }.items()
        )


def test_a_token_can_not_be_guessed_and_is_not_shown() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43
    assert TOKEN not in repr(Access(TOKEN))


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.0.2.7", False), ("server", False), ("", False)),
    ],
)
def test_only_addresses_of_this_machine_alone_are_loopback(host: str, is_own: bool) -> None:
    assert is_loopback(host) is is_own


def test_a_server_is_known_by_its_address_and_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Machine")
    who = Access.to_port(None, "server.example", ["proxy.example"], 8765)
    known: Callable[[str], bool] = who.knows_host
    assert all(map(known, ["machine", "server.example", "proxy.example:443"]))
    assert who.cookie == "aqltelemetry-8765"
