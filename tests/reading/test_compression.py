"""Compressed files are read like others, and damaged ones are errors."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from aqltelemetry.errors import CompressedFileError
from aqltelemetry.reading import compression
from aqltelemetry.reading.compression import read_text

_TEXT = b"".join(b"%d,0.5,a label,7\n" % number for number in range(300_000))
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "a.csv": bytes,
    "a.csv.gz": gzip.compress,
    "a.csv.zst": zstandard.compress,
}
_compressed = pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return b"".join(read_text(fd, path.name))
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", _COMPRESS)
@pytest.mark.parametrize("text", [_TEXT, b"", b"x"], ids=["long", "empty", "short"])
def test_text_is_the_same_compressed_or_not(tmp_path: Path, name: str, text: bytes) -> None:
    (tmp_path / name).write_bytes(_COMPRESS[name](text))
    assert _read(tmp_path / name) == text


@_compressed
def test_several_streams_in_one_file_are_read(tmp_path: Path, name: str) -> None:
    """`cat a.gz b.gz` and parallel compressors write them."""
    compress = _COMPRESS[name]
    (tmp_path / name).write_bytes(compress(b"first\n") + compress(_TEXT) + compress(b"last\n"))
    assert _read(tmp_path / name) == b"first\n" + _TEXT + b"last\n"


def test_a_padded_gzip_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x") + bytes(512))
    assert _read(tmp_path / "a.csv.gz") == b"x"


def test_a_zstd_file_without_its_size_in_the_header_is_read(tmp_path: Path) -> None:
    engine = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    (tmp_path / "a.csv.zst").write_bytes(engine.compress(_TEXT) + engine.flush())
    assert _read(tmp_path / "a.csv.zst") == _TEXT


@_compressed
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99, 1])
def test_a_truncated_file_is_an_error(tmp_path: Path, name: str, share: float) -> None:
    whole = _COMPRESS[name](_TEXT)
    (tmp_path / name).write_bytes(whole[: min(int(len(whole) * share), len(whole) - 1)])
    with pytest.raises(CompressedFileError, match="truncated"):
        _read(tmp_path / name)


@_compressed
@pytest.mark.parametrize("at", [0, 3])
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, at: int) -> None:
    damaged = bytearray(_COMPRESS[name](_TEXT))
    damaged[at] ^= 0xFF
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(CompressedFileError, match=r"damaged|truncated"):
        _read(tmp_path / name)


def test_the_checksum_reveals_damage_in_the_middle(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(_TEXT))
    damaged[-8] ^= 1  # the checksum itself
    (tmp_path / "a.csv.gz").write_bytes(damaged)
    with pytest.raises(CompressedFileError, match="damaged"):
        _read(tmp_path / "a.csv.gz")


@_compressed
def test_an_uncompressed_file_with_the_suffix_of_a_compressed_one_is_an_error(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(_TEXT)
    with pytest.raises(CompressedFileError, match="damaged"):
        _read(tmp_path / name)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="zstd is in the standard library")
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.csv.zst").write_bytes(zstandard.compress(b"x"))
    with pytest.raises(CompressedFileError, match=r"install aqltelemetry\[zstd\]"):
        _read(tmp_path / "a.csv.zst")


def test_the_standard_library_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 and later need no package."""

    class Library:
        ZstdDecompressor = staticmethod(lambda: zstandard.ZstdDecompressor().decompressobj())

    monkeypatch.setattr(compression, "import_module", {"compression.zstd": Library}.__getitem__)
    (tmp_path / "a.csv.zst").write_bytes(zstandard.compress(b"x"))
    assert _read(tmp_path / "a.csv.zst") == b"x"
