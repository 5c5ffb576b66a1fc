"""Reads published files piece by piece, whether they are compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.system import syscalls

_PIECE_BYTES = 1 << 20
# A row of a thousand bytes may be compressed to one.
_COMPRESSED_PIECE_BYTES = 64 << 10
_GZIP = 31  # zlib's way to ask for the gzip format


def read_text(fd: int, name: str, piece_bytes: int = _PIECE_BYTES) -> Iterator[bytes]:
    """Yield the CSV text of an open file, in pieces; decompress it if its name says so.

    Files named `*.gz` and `*.zst` are decompressed, all others are read as they are, in
    pieces of at most `piece_bytes`. Raises OSError where the file can't be read, and
    CompressedFileError, an OSError too, where it is damaged, truncated, or can't be
    decompressed for want of a package.
    """
    if name.endswith(".gz"):
        yield from _decompressed(fd, _new_gzip)
    elif name.endswith(".zst"):
        yield from _decompressed(fd, _zstd())
    else:
        while piece := syscalls.read(fd, piece_bytes):
            yield piece


def is_compressed(name: str) -> bool:
    """Return whether `read_text` decompresses a file of this name."""
    return name.endswith((".gz", ".zst"))


def _decompressed(fd: int, new_decoder: Callable[[], Any]) -> Iterator[bytes]:
    decoder = new_decoder()
    is_whole = False
    try:
        while piece := syscalls.read(fd, _COMPRESSED_PIECE_BYTES):
            while piece:
                is_whole = False
                text = decoder.decompress(piece)
                piece = b""
                if text:
                    yield text
                if decoder.eof:  # a file may consist of several streams, and be padded
                    is_whole, piece = True, decoder.unused_data.lstrip(b"\0")
                    decoder = new_decoder()
    except OSError:
        raise
    except Exception as exc:
        raise CompressedFileError(f"it is damaged: {exc}") from exc
    if not is_whole:
        raise CompressedFileError("it is truncated, or is still being written")


def _new_gzip() -> Any:
    return zlib.decompressobj(_GZIP)


def _zstd() -> Callable[[], Any]:
    try:  # in the standard library since Python 3.14
        decoder: Callable[[], Any] = import_module("compression.zstd").ZstdDecompressor
    except ImportError:
        pass
    else:
        return decoder
    try:
        package = import_module("zstandard")
    except ImportError:
        msg = "it is compressed by zstd: install aqltelemetry[zstd] to read it"
        raise CompressedFileError(msg) from None
    return lambda: package.ZstdDecompressor().decompressobj()
