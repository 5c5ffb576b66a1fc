"""Forwards requests for the page of a recording to a process that reads the recording.

The service only passes on bytes, so that reading and computing do not hold its event loop. The
process is started by the first request and shared by all workers of the service: it listens on a
socket in a directory that only this user can access. It ends when no request has come for a while,
or when the worker that has started it ends: its standard input is a pipe, which the end of a
process closes however it ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote

from aqltelemetry.errors import OptionError, ViewsError
from aqltelemetry.runtime.active import Active
from aqltelemetry.settings import Settings, settings
from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.threads import start_thread
from aqltelemetry.system.unpatched import let_greenlets_run, native_popen

_IDLE_S = 15.0
_UNSCRAPED_S = 900.0
_START_S = 60.0
_POLL_S = 0.05
_CHUNK_BYTES = 1 << 16
_MAX_HEAD_BYTES = 1 << 16
_HEAD_END = b"\r\n\r\n"
_HOP = frozenset({"connection", "date", "keep-alive", "server", "transfer-encoding"})
_SAFE_IN_PATH = "/"
_SAFE_IN_QUERY = "=&%+,:"


class Answer(NamedTuple):
    """A response of the process."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class WholeAnswer(NamedTuple):
    """A response of the process that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Program(NamedTuple):
    """What the process runs: the name of its socket, its module, and further arguments."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()

    @property
    def idle_s(self) -> float:
        """The time in seconds without a request after which it ends."""
        return _IDLE_S if self.name == PAGE.name else _UNSCRAPED_S


PAGE = Program("views", "aqltelemetry.views.serve.child")
"""Shows the page of the recording."""


def metrics(bounds: Sequence[float] | None) -> Program:
    """Return what answers the scrapes of Prometheus, with buckets of these bounds in seconds.

    Raises OptionError for bounds that are not ascending positive numbers.
    """
    text = "" if bounds is None else ",".join(map(repr, bounds))
    is_ascending = bounds is None or (
        all(low < high for low, high in pairwise([0.0, *bounds])) and len(bounds) > 0
    )
    if not is_ascending:
        raise OptionError("buckets", bounds, "must be positive numbers in ascending order")
    return Program("metrics", "aqltelemetry.views.metrics.child", (text,))


class ViewsProcess:
    """The process that shows a recording, as a worker of a service sees it.

    Args:
        monitoring_dir: The directory that was recorded into; by default that of the monitor which
            runs in this process, or else that of the environment.
        program: What it runs.
    """

    def __init__(
        self,
        monitoring_dir: str | os.PathLike[str] | None = None,
        program: Program = PAGE,
    ) -> None:
        self._program = program
        # A relative path is that of now.
        self._given = None if monitoring_dir is None else settings(monitoring_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_starting = False
        self._failure: Exception | None = None

    @asynccontextmanager
    async def get(self, path: str, query: str, accept: str = "*/*") -> AsyncIterator[Answer]:
        """Send a GET request, and give the response, whose body is read within the block.

        Args:
            path: The decoded path below the page's prefix, with its slash.
            query: The encoded query.
            accept: The header Accept.

        Raises:
            ViewsError: The process can't be started, or does not answer.
        """
        request = _request(path, query, accept)
        for is_last in (False, True):
            reader, writer = await self._connect()
            with closing(writer):
                try:
                    writer.write(request)
                    answer = await reader.readuntil(_HEAD_END)
                except (OSError, asyncio.IncompleteReadError) as exc:
                    # It may have accepted the connection and then ended.
                    if is_last:
                        raise ViewsError("it does not answer") from exc
                    continue
                yield Answer(*_head(answer), _body(reader))
                return

    def get_blocking(self, path: str, accept: str, wait_s: float) -> WholeAnswer:
        """Send a GET request, and return the response; greenlets may run meanwhile.

        Args:
            path: The decoded path, with its slash.
            accept: The header Accept.
            wait_s: For how many seconds to wait at most.

        Raises:
            ViewsError: The process can't be started, or does not answer in time.
        """
        request = _request(path, "", accept)
        until_ns = monotonic_ns() + int(wait_s * NS_PER_S)
        for is_last in (False, True):
            with closing(self._connect_blocking(until_ns)) as connection:
                try:
                    connection.sendall(request)
                    data = _read_to_end(connection, until_ns)
                except OSError as exc:
                    if is_last or isinstance(exc, TimeoutError):
                        raise ViewsError("it does not answer in time") from exc
                    continue
            head, end, body = data.partition(_HEAD_END)
            if end:
                return WholeAnswer(*_head(head + end), body)
        raise ViewsError("it does not answer")

    def _connect_blocking(self, until_ns: int) -> socket.socket:
        chosen = self._chosen()
        path = self._socket(chosen)
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.settimeout(_left_s(until_ns))
                connection.connect(path)
            except (FileNotFoundError, ConnectionRefusedError, TimeoutError):
                connection.close()
            except OSError as exc:
                connection.close()
                raise ViewsError(f"{path}: {exc.strerror}") from exc
            else:
                return connection
            if monotonic_ns() > until_ns:
                raise ViewsError("it has not started yet; the next scrape may find it")
            self._start(path, chosen)
            let_greenlets_run(_POLL_S)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the process, which is started if it does not run."""
        chosen = self._chosen()
        path = self._socket(chosen)
        until_ns = monotonic_ns() + int(_START_S * NS_PER_S)
        while True:
            try:
                return await asyncio.open_unix_connection(path, limit=_MAX_HEAD_BYTES)
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            except OSError as exc:
                raise ViewsError(f"{path}: {exc.strerror}") from exc
            if monotonic_ns() > until_ns:
                raise ViewsError(f"it did not start in {_START_S:.0f} s")
            self._start(path, chosen)
            await asyncio.sleep(_POLL_S)

    def _chosen(self) -> Settings:
        """Return the directory to show and the directory of its journal, as a recording's options.

        A recording of this process may have a journal directory that the environment does not say.
        """
        running = None if Active.monitor is None else Active.monitor.settings
        if running is None:
            return self._given or settings()
        if self._given is None or self._given.directory == running.directory:
            return running
        return self._given

    def _socket(self, chosen: Settings) -> str:
        """Return where the process listens."""
        where = sys.executable, __file__, chosen.directory, chosen.journal_dir
        key = repr((*where, *self._program.arguments))
        digest = hashlib.blake2s(os.fsencode(key), digest_size=8).hexdigest()
        directory = os.path.join(tempfile.gettempdir(), f"aqltelemetry-{os.geteuid()}")
        _make_private(directory)
        return os.path.join(directory, f"{self._program.name}-{digest}")

    def _start(self, path: str, chosen: Settings) -> None:
        """Start the process on a thread, unless this worker's runs; raise what went wrong."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise ViewsError(f"it can't be started: {failure}") from failure
        if not self._is_starting:
            self._is_starting = True
            start_thread(lambda: self._run(path, chosen), "aqltelemetry-views-process")

    def _run(self, path: str, chosen: Settings) -> None:
        """Start the process and wait for its end."""
        program = self._program
        command = [sys.executable, "-m", program.module, path, str(program.idle_s)]
        command += [chosen.journal_dir, chosen.directory, *program.arguments]
        try:
            # A process group of its own, since the terminal's Ctrl-C is not for it.
            with native_popen()(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,
            ) as process:
                if process.wait() != 0:
                    status = process.returncode
                    self._failure = OSError(f"exit status {status}; the service's log says why")
        except Exception as exc:  # noqa: BLE001 - the next request reports it
            self._failure = exc
        finally:
            self._is_starting = False


def _environment() -> Mapping[str, str]:
    """Return an environment in which the process is not recorded itself."""
    return {name: text for name, text in os.environ.items() if not name.startswith("AQLTELEMETRY_")}


def _make_private(directory: str) -> None:
    """Make a directory of this user; raises ViewsError where it is another's."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ViewsError(
                f"{directory} must be a directory that only this user can access"
            ) from None
    except OSError as exc:
        raise ViewsError(f"{directory}: {exc.strerror}") from exc


def _request(path: str, query: str, accept: str) -> bytes:
    target = f"{quote(path, safe=_SAFE_IN_PATH)}?{quote(query, safe=_SAFE_IN_QUERY)}"
    # Of version 1.0, so that the body is sent as it is, up to the end.
    accept = accept if accept.isascii() and accept.isprintable() else "*/*"
    return f"GET {target} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()


def _head(head: bytes) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers of a response, but not those of the connection."""
    first, *lines = head[: -len(_HEAD_END)].decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    kept = {name: text for name, text in headers.items() if name.lower() not in _HOP}
    return int(first.split(" ")[1]), kept


async def _body(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await reader.read(_CHUNK_BYTES):
        yield chunk


def _read_to_end(connection: socket.socket, until_ns: int) -> bytes:
    chunks = []
    while chunk := connection.recv(_CHUNK_BYTES):
        chunks.append(chunk)
        connection.settimeout(_left_s(until_ns))
    return b"".join(chunks)


def _left_s(until_ns: int) -> float:
    """Return the seconds until then; a time without limit would be 0."""
    return max(until_ns - monotonic_ns(), NS_PER_S // 1000) / NS_PER_S
