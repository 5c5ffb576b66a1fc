"""ClickHouse's HTTP interface in front of chDB, the real engine: for tests without a server.

It takes statements as the server does: in the parameter `query`, in the body, or both; settings
as parameters; bodies compressed. `faults` break the next INSERTs, before or after each is done.
Answers to statements that begin with `cut_off` end in their head.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import zstandard

_TRANSPORT = {"query", "database", "default_format", "wait_end_of_query", "query_id", "session_id"}
_ERROR_CODE = re.compile(r"Code: (\d+)")


class ClickHouseServer(ThreadingHTTPServer):
    """Listens on a free port; one statement at a time."""

    daemon_threads = True

    def __init__(self, path: Path, port: int = 0) -> None:
        from chdb.session import Session

        super().__init__(("127.0.0.1", port), _Handler)
        new_session: Any = Session
        self._session = new_session(str(path))
        self.path = path
        self._lock = threading.Lock()
        self.faults: list[str] = []
        self.cut_off = ""
        self.inserts = 0

    @property
    def url(self) -> str:
        """Return the URL of the server as a destination."""
        return f"clickhouse://user:secret@127.0.0.1:{self.server_port}/default"

    def run(self, statement: bytes, settings: dict[str, str]) -> bytes:
        """Return what a statement, which its data may follow, answers."""
        head, has_data, data = statement.partition(b" FORMAT CSV\n")
        text = head.decode()
        with self._lock, tempfile.NamedTemporaryFile(suffix=".csv") as file:
            for name, value in settings.items():
                self._session.query(f"SET {name} = '{value}'")
            if has_data:
                file.write(data)
                file.flush()
                text = text.replace("FROM input(", f"FROM file('{file.name}', 'CSV', ")
            return bytes(self._session.query(text, "TabSeparated").bytes() or b"")

    def handle_error(self, *_: Any) -> None:
        """Ignore a client that went away."""

    def stop(self) -> None:
        """Stop serving, and close the engine."""
        self.shutdown()
        self.server_close()
        self._session.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ClickHouseServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        statement = b"\n".join(part for part in (given.get("query", "").encode(), body) if part)
        fault = ""
        if statement.startswith(b"INSERT"):
            self.server.inserts += 1
            fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault == "before":
            self.close_connection = True
            return
        known = {name: given[name] for name in given if _is_setting(name)}
        headers, status = {}, 200
        try:
            answer = self.server.run(statement, known)
        except Exception as exc:
            answer, status = str(exc).encode(), 500
            code = _ERROR_CODE.search(str(exc))
            headers["X-ClickHouse-Exception-Code"] = code[1] if code else "1"
        if fault == "after":
            self.close_connection = True
            return
        if self.server.cut_off and statement.startswith(self.server.cut_off.encode()):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n")
            self.close_connection = True
            return
        headers["X-ClickHouse-Format"] = (
            "Native" if b"FORMAT Native" in statement else "TabSeparated"
        )
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


def _is_setting(name: str) -> bool:
    return name not in _TRANSPORT and not name.startswith(("param_", "http_", "send_progress"))


@contextmanager
def clickhouse_server(path: Path) -> Iterator[ClickHouseServer]:
    """Run a server on its own thread."""
    server = ClickHouseServer(path)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


if __name__ == "__main__":
    ClickHouseServer(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
