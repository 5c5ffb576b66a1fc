"""Whole files are parsed by the compiled parser as others parse them, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading import parsers
from aqltelemetry.reading.csv_frames import read_rows
from aqltelemetry.reading.row_parser import RowParser
from aqltelemetry.reading.rows import Rows

pytestmark = pytest.mark.skipif(
    parsers.compiled is None, reason="the extensions are not built, or are switched off"
)
_AT_NS = 1_700_000_000_000_000_000
_ROW = b"1700000000000000001,0.001404242,/a [GET],7\n"


def _write(directory: Path, *texts: bytes) -> list[str]:
    names = [f"duration.{number:03}.csv" for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        (directory / name).write_bytes(text)
    return names


def _fail(name: str, reason: str) -> None:
    raise AssertionError((name, reason))


def _same(one: Rows, other: Rows) -> bool:
    return (
        np.array_equal(one.timepoints_ns, other.timepoints_ns)
        and np.array_equal(one.measurements, other.measurements)
        and [one.labels[code] for code in one.label_codes]
        == [other.labels[code] for code in other.label_codes]
        and [one.processes[code] for code in one.process_codes]
        == [other.processes[code] for code in other.process_codes]
    )


def test_files_are_parsed_as_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        b"".join(
            b"%d,%d.5,label %d,%d\n" % (_AT_NS + file * 100 + row, row, row % 3, file)
            for row in rows
        )
        for file, rows in enumerate([range(40), range(0), range(7), range(300)])
    ]
    names = _write(tmp_path, *(CSV_HEADER + text for text in texts))
    parser = RowParser(_fail)
    (first,), number = parser.parse_files(str(tmp_path), names[:3])
    (second,), more = parser.parse_files(str(tmp_path), names[3:])
    assert (number, more, len(first), len(second)) == (3, 1, 47, 300)
    monkeypatch.setattr(parsers, "compiled", None)
    assert _same(first, read_rows(str(tmp_path), names[:3]))
    assert _same(second, read_rows(str(tmp_path), names[3:]))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"Timepoint, Measurement, Label, PID\n" + _ROW),
        lambda path: path.write_bytes(CSV_HEADER + _ROW[:-1]),
        lambda path: path.write_bytes(CSV_HEADER + _ROW[:-2] + b"x\n"),
        lambda path: path.write_bytes(CSV_HEADER[:-3]),
        lambda path: path.write_bytes(CSV_HEADER + _ROW.replace(b"/a", b"\xff")),
        lambda path: path.write_bytes(CSV_HEADER + b"1,2,x,3\n" * 1000),  # short rows
        lambda path: path.write_bytes(CSV_HEADER + (_ROW + _ROW.replace(b",7", b",8")) * 20),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.unlink(missing_ok=True),
    ],
)
def test_a_file_of_another_form_ends_what_is_parsed(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    names = _write(tmp_path, CSV_HEADER + _ROW * 2, CSV_HEADER + _ROW)
    make(tmp_path / "other.csv")
    parser = RowParser(lambda *_: None)
    found, number = parser.parse_files(str(tmp_path), [names[0], "other.csv", names[1]])
    # A label that is not text makes all of them unreadable.
    assert (number, sum(map(len, found))) in {(1, 2), (0, 0)}


def test_rows_that_were_parsed_before_stay(tmp_path: Path) -> None:
    names = _write(tmp_path, *(CSV_HEADER + _ROW * count for count in (3, 5, 2)))
    parser = RowParser(_fail)
    found = [parser.parse_files(str(tmp_path), [name])[0][0] for name in names]
    assert [rows.timepoints_ns.tolist() for rows in found] == [
        [_AT_NS + 1] * count for count in (3, 5, 2)
    ]


def test_the_extension_refuses_arrays_that_are_too_small(tmp_path: Path) -> None:
    table, one = parsers.compiled.LabelTable(), np.empty(1, np.int64)
    columns = one, np.empty(1), np.empty(1, np.int32), one, one
    with pytest.raises(ValueError, match="too small"):
        parsers.compiled.parse_files(0, [b"a", b"b"], CSV_HEADER, table, *columns, one, one)
    _write(tmp_path, CSV_HEADER + _ROW * 2)
    directory_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        number = parsers.compiled.parse_files(
            directory_fd, [b"duration.000.csv"], CSV_HEADER, table, *columns, one, one
        )
    finally:
        os.close(directory_fd)
    assert number == 0
