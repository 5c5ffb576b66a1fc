from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aqltelemetry.shipping.destination import FileGone, ShippedFile
from aqltelemetry.shipping.file_rows import (
    FirstRow,
    RefusedFileError,
    count_rows,
    first_row,
    row_pieces,
)

_HEADER = b"Timepoint,Measurement,Label,PID\n"


def _file(tmp_path: Path, content: bytes, name: str = "x.csv") -> ShippedFile:
    path = tmp_path / name
    path.write_bytes(content)
    return ShippedFile("x.csv", str(path))


def test_rows_come_without_the_header_and_in_whole_lines(tmp_path: Path) -> None:
    rows = b"".join(b"%d,0.5,label,7\n" % number for number in range(100_000))
    file = _file(tmp_path, _HEADER + rows)
    pieces = list(row_pieces(file))
    assert len(pieces) > 4
    assert b"".join(pieces) == rows
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert count_rows(file) == 100_000


def test_a_compressed_file_is_decompressed(tmp_path: Path) -> None:
    file = _file(tmp_path, gzip.compress(_HEADER + b"1,2,a,7\n"), "x.csv.gz")
    assert b"".join(row_pieces(file)) == b"1,2,a,7\n"


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    assert count_rows(_file(tmp_path, _HEADER)) == 0


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\0" * 5000])
def test_a_file_with_another_header_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RefusedFileError, match="its header is b"):
        list(row_pieces(_file(tmp_path, content)))


def test_a_truncated_compressed_file_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, gzip.compress(_HEADER + b"1,2,a,7\n")[:-6], "x.csv.gz")
    with pytest.raises(RefusedFileError, match="truncated"):
        list(row_pieces(file))


def test_a_file_that_was_removed_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileGone):
        list(row_pieces(ShippedFile("x.csv", str(tmp_path / "x.csv"))))


@pytest.mark.parametrize(
    ("line", "label"), [(b"12,0.5,a [GET],7\n", "a [GET]"), (b'12,1,"x, ""y""",7', 'x, "y"')]
)
def test_the_first_row_is_known_by_its_time_and_label(
    tmp_path: Path, line: bytes, label: str
) -> None:
    assert first_row(_file(tmp_path, _HEADER + line)) == FirstRow(12, label)


@pytest.mark.parametrize("rows", [b"", b"x,1,a,7\n", b"1,2\n", b"1,2,\xff,7\n"])
def test_a_first_row_that_is_not_there_or_is_damaged_is_not_known(
    tmp_path: Path, rows: bytes
) -> None:
    assert first_row(_file(tmp_path, _HEADER + rows)) is None
