"""Reads published files piece by piece, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.system import syscalls

_PIECE_BYTES = 1 << 20
# The text may be a thousand times as long.
_COMPRESSED_PIECE_BYTES = 64 << 10
_GZIP = 31  # the value of `wbits` for the gzip format


def read_text(fd: int, name: str, piece_bytes: int = _PIECE_BYTES) -> Iterator[bytes]:
    """Yield the CSV text of an open file in pieces.

    A file named `*.gz` or `*.zst` is decompressed; any other is read as it is, in pieces of
    at most `piece_bytes`. Raises OSError if the file can't be read, and CompressedFileError,
    an OSError too, if it is damaged or truncated or if a package to decompress it is missing.
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
                if decoder.eof:  # a file may contain several streams and padding
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
