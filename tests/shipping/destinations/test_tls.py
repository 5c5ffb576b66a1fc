"""Servers with certificates that no system trusts, and what `ship` trusts."""

from __future__ import annotations

import asyncio
import gc
import os
import pwd
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aqltelemetry.errors import DestinationError, OptionError
from aqltelemetry.shipping.built_in import make_destination
from aqltelemetry.shipping.destination import Destination, ShippedFile, Unavailable
from aqltelemetry.shipping.target import Target
from ports import free_port
from postgres import programs, started
from shipments import publish, shipment

_OPENSSL = "usr/bin/openssl"


class _Certificate(NamedTuple):
    """A self-signed certificate of localhost, and its key."""

    path: Path
    key: Path


@pytest.fixture
def certificate(tmp_path: Path, debian_package: Callable[[str, str], Path]) -> _Certificate:
    made = _Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    subprocess.run(
        [
            *(debian_package("openssl", _OPENSSL), "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", made.key, "-out", made.path),
        ],
        check=True,
        capture_output=True,
    )
    return made


async def _open(url: str) -> Destination:
    destination = make_destination(Target(url))
    try:
        await destination.open()
    finally:
        await destination.close()
    return destination


# The event loop ends before the server has closed all transports.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("scheme", ["crates", "remote-write+https"])
def test_only_a_certificate_in_the_given_file_is_trusted(
    scheme: str, certificate: _Certificate
) -> None:
    async def check() -> None:
        async with _serving(certificate) as port:
            url = f"{scheme}://localhost:{port}/x"
            with pytest.raises(Unavailable, match="certificate verify failed"):
                await _open(url)
            await _open(f"{url}?ca_file={certificate.path}")
            by_address = url.replace("localhost", "127.0.0.1")
            with pytest.raises(Unavailable, match="IP address mismatch"):
                await _open(f"{by_address}?ca_file={certificate.path}")

    asyncio.run(check())
    gc.collect()


@asynccontextmanager
async def _serving(certificate: _Certificate) -> AsyncIterator[int]:
    """Run a server that takes everything; yield its port."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"results": [], "rows": []})

    app = web.Application()
    app.router.add_post("/{any:.*}", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = TestServer(app, scheme="https", host="localhost")
    await server.start_server(ssl=context)
    assert server.port is not None
    try:
        yield server.port
    finally:
        await server.close()


@pytest.mark.parametrize("scheme", ["crates", "remote-write+https", "otlp+https"])
async def test_a_file_without_certificates_is_an_error(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("none.pem", "empty.pem"):
        with pytest.raises(OptionError, match=f"ca_file='.*{name}': must be a file with cert"):
            await _open(f"{scheme}://localhost:1/x?ca_file={tmp_path / name}")


# As above.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_official_exporter_trusts_the_given_file(certificate: _Certificate) -> None:
    async def check() -> None:
        async with _serving(certificate) as port:
            await _open(f"otlp+https://localhost:{port}?ca_file={certificate.path}")

    asyncio.run(check())
    gc.collect()


# asyncpg leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.system
def test_postgresql_is_verified_as_libpq_does(
    certificate: _Certificate, tmp_path: Path, debian_package: Callable[[str, str], Path]
) -> None:
    debian_package("postgresql", "usr/lib/postgresql/*/bin/initdb")
    port = free_port()
    for server in started(programs(), port):
        for name, source in (("server.crt", certificate.path), ("server.key", certificate.key)):
            copy = server.home / "data" / name
            copy.write_bytes(source.read_bytes())
            copy.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(copy, pwd.getpwnam("postgres").pw_uid, -1)
        server.psql("ALTER SYSTEM SET ssl = on")
        server.psql("SELECT pg_reload_conf()")
        asyncio.run(_check_postgresql(f"postgresql://test@localhost:{port}/postgres", certificate))
        (tmp_path / "files").mkdir()
        file = publish(tmp_path / "files", 1, 10)
        options = f"sslmode=verify-full&sslrootcert={certificate.path}"
        url = f"postgresql://test@localhost:{port}/postgres?{options}"

        assert asyncio.run(_is_encrypted(url, file))
    gc.collect()


async def _is_encrypted(url: str, file: ShippedFile) -> bool:
    """Ship a file; return whether the server says that the connection is encrypted."""
    destination = make_destination(Target(url))
    await destination.open()
    assert (await destination.ship(shipment([file]))).rows == 10
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    is_encrypted: bool = await destination._db.fetchval(query)  # type: ignore[attr-defined]
    await destination.close()
    return is_encrypted


async def _check_postgresql(url: str, certificate: _Certificate) -> None:
    await _open(f"{url}?sslmode=require")
    with pytest.raises((Unavailable, DestinationError), match=r"(?i)certificate|root"):
        await _open(f"{url}?sslmode=verify-full")
    with pytest.raises(DestinationError, match=r"none\.pem"):
        await _open(f"{url}?sslmode=verify-full&sslrootcert={certificate.path.parent}/none.pem")
    by_address = url.replace("localhost", "127.0.0.1")
    with pytest.raises(Unavailable, match="IP address mismatch"):
        await _open(f"{by_address}?sslmode=verify-full&sslrootcert={certificate.path}")
    await _open(f"{by_address}?sslmode=verify-ca&sslrootcert={certificate.path}")
