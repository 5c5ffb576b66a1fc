"""Rows are parsed equally with and without pyarrow."""

from __future__ import annotations

import csv
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aqltelemetry.observation import COLUMNS, CSV_HEADER, clean_label, quote_field
from aqltelemetry.reading import parsers
from aqltelemetry.reading.csv_frames import ForeignFileWarning, Wanted, read_rows
from aqltelemetry.reading.parsers import by_pandas, parse
from aqltelemetry.sinks.file_names import FileName

_COMPILED = parsers.compiled
_SPACED = b"Timepoint, Measurement, Label, PID\r\n"
_LABELS = [
    "NA",
    "null",
    "nan",
    "",
    " ",
    " a",
    "1",
    "-0",
    "True",
    '"',
    'a "b", c',
    ",",
    "é",
    "a\\nb",
]
_EXAMPLES = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100
)

_labels = st.one_of(st.sampled_from(_LABELS), st.text(max_size=5)).map(clean_label)
_measurements = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**12), 10**12).map(lambda ns: f"{ns / 1e9:.9f}"),
)
_rows = st.tuples(
    st.integers(-(2**62), 2**62), _measurements, _labels.map(quote_field), st.integers(0, 2**31)
)
_good = st.lists(_rows, max_size=20).map(
    lambda rows: "".join(f"{t},{m},{label},{pid}\n" for t, m, label, pid in rows).encode()
)
_damaged = st.lists(
    st.sampled_from(
        ["1,2,a,7\n", "1", "2.5", ",", '"', "\n", "\r", "a", " ", "\0", "-", "+", "e", "nan", "inf"]
    ),
    max_size=12,
).map(lambda pieces: "".join(pieces).encode())


def _parsed(directory: Path, wanted: Wanted = Wanted()) -> list[tuple[pd.DataFrame, list[str]]]:  # noqa: B008
    """Return the frame and the warnings of the three parsers."""
    found: list[tuple[pd.DataFrame, list[str]]] = []
    assert parsers.HAVE_PYARROW
    for compiled, have_pyarrow in ((None, True), (None, False), (_COMPILED, False)):
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch.setattr(parsers, "HAVE_PYARROW", have_pyarrow)
            patch.setattr(parsers, "compiled", compiled)
            frame = read_rows(str(directory), sorted(os.listdir(directory)), wanted).frame
            left_out = [str(each.message).split(": ")[0] for each in caught]
            assert {each.category for each in caught} <= {ForeignFileWarning}
            found.append((frame, left_out))
    return found


def _fill(directory: Path, bodies: list[tuple[bytes, bytes]]) -> None:
    for name in os.listdir(directory):
        (directory / name).unlink()
    for number, (header, body) in enumerate(bodies):
        (directory / f"duration.{number}.csv").write_bytes(header + body)


@_EXAMPLES
@given(st.lists(_good, min_size=1, max_size=4))
def test_both_parsers_read_the_written_format_equally(tmp_path: Path, bodies: list[bytes]) -> None:
    _fill(tmp_path, [(CSV_HEADER, body) for body in bodies])
    (one, odd), (other, _), (third, _) = _parsed(tmp_path)
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    pd.testing.assert_frame_equal(one, third, check_exact=True)
    assert not odd
    assert len(one) == sum(body.count(b"\n") for body in bodies)


@_EXAMPLES
@given(
    st.lists(
        st.tuples(st.sampled_from([CSV_HEADER, _SPACED, b"a,b\n"]), st.one_of(_good, _damaged)),
        min_size=1,
        max_size=4,
    )
)
@example([(CSV_HEADER, b'1,2,"a\n3,4,b",7\n'), (CSV_HEADER, b"1,2,a,7\n")])
@example([(CSV_HEADER, b"1,2,a,7,9\n"), (CSV_HEADER, b"1,2,a,7\n")])
@example([(CSV_HEADER, b"1,2,3,7,9\n"), (CSV_HEADER, b"1,2,007,7\n")])
@example([(CSV_HEADER, b"99999999999999999999,2,a,7\n"), (CSV_HEADER, b"1,2,a,7\n")])
@example([(CSV_HEADER, b"inf,2,a,7\n"), (CSV_HEADER, b"1,2,a,inf\n"), (CSV_HEADER, b"inf")])
@example([(CSV_HEADER, b"1,2,\xff,7\n"), (CSV_HEADER, b"1,2,a,7\n")])
@example(
    [(CSV_HEADER, b"1,NaN,a,7\n"), (CSV_HEADER, b"1,-nan,a,7\n"), (CSV_HEADER, b"1,nan,a,7\n")]
)
@example([(CSV_HEADER, b"1,1e999,a,7\n"), (CSV_HEADER, b"1,,a,7\n"), (CSV_HEADER, b"1,true,a,7\n")])
@example([(CSV_HEADER, b'1,2,"a"b,7\n'), (CSV_HEADER, b'1,2,a"b,7\n'), (CSV_HEADER, b"\n \n")])
@example([(_SPACED, b'1, 2, "a, b", 7\r\n'), (CSV_HEADER, b'1,2,"a, b",7\r\n')])
@example([(CSV_HEADER, b"1,2,a\0b,7\n"), (CSV_HEADER, b"1,2,\0,7\n1,\0 2,a,7\n")])
def test_both_parsers_treat_damaged_files_equally(
    tmp_path: Path, bodies: list[tuple[bytes, bytes]]
) -> None:
    _fill(tmp_path, bodies)
    (one, odd), (other, also_odd), (third, odd_too) = _parsed(tmp_path)
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    pd.testing.assert_frame_equal(one, third, check_exact=True)
    assert odd == also_odd == odd_too


@pytest.mark.parametrize("label", _LABELS)
def test_a_label_is_read_as_it_was_written(label: str) -> None:
    rows = f"1,0.5,{quote_field(label)},7\n2,0.5,other,7\n".encode()
    for columns in (parse(memoryview(rows), lines=2, spaced=False), by_pandas(memoryview(rows))):
        assert [columns.labels[code] for code in columns.label_codes] == [label, "other"]


def test_numeric_labels_stay_texts() -> None:
    labels = ["7", "007", "7.0", "-0", "1e3"]
    rows = "".join(f"1,0.5,{label},7\n" for label in labels).encode()
    for columns in (parse(memoryview(rows), lines=5, spaced=False), by_pandas(memoryview(rows))):
        assert [columns.labels[code] for code in columns.label_codes] == labels


def test_plain_rows_are_read_by_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(parsers, "by_pandas")
    rows = "".join(f"{n},{n / 7!r},label {n % 3},7\n" for n in range(1000)).encode()
    columns = parse(memoryview(rows), lines=1000, spaced=False)
    assert np.array_equal(columns.timepoints_ns, np.arange(1000))
    assert np.array_equal(columns.measurements, np.arange(1000) / 7)
    assert [columns.labels[code] for code in columns.label_codes[:4]] == [
        *("label 0", "label 1", "label 2", "label 0")
    ]


def test_a_row_with_too_many_fields_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected 4 fields in line 2, saw 5"):
        by_pandas(memoryview(b"1,2,3,7,9\n"))


_AS_OTHERS_WRITE = st.sampled_from(
    ["csv all", "csv texts", "csv minimal", "pandas", "pyarrow", "spaced", "windows"]
)
_FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
_observations = st.lists(
    st.tuples(st.integers(-(2**62), 2**62), _FINITE, _labels, st.integers(0, 2**31)),
    min_size=1,
    max_size=20,
)


def _write_as(program: str, rows: list[tuple[int, float, str, int]]) -> bytes:
    """Return rows as a program writes them by default, or with a common option."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if program == "pandas":
        return b"\xef\xbb\xbf" + frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC).encode()
    if program == "pyarrow":
        output = io.BytesIO()
        pyarrow.csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), output)
        return output.getvalue()
    text = io.StringIO(newline="")
    end = "\r\n" if program in ("csv all", "windows") else "\n"
    if program == "csv all":
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end)
    elif program == "csv texts":
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator=end)
    else:
        writer = csv.writer(text, lineterminator=end)
    writer.writerows([COLUMNS, *rows])
    written = text.getvalue()
    if program == "spaced":
        lines = ['"Timepoint", "Measurement", "Label", "PID"\r\n']
        lines += [f'{t}, {m!r}, "{_doubled(label)}", {pid}\r\n' for t, m, label, pid in rows]
        written = "".join(lines)
    return written.encode()


def _doubled(label: str) -> str:
    return label.replace('"', '""')


@_EXAMPLES
@given(_AS_OTHERS_WRITE, _observations)
@example("csv all", [(1, 0.5, "a", 7), (2, 0.25, 'a "b", c', 8), (3, 1.0, "", 7)])
@example("pyarrow", [(1, 0.5, "NA", 7)])
def test_both_parsers_read_files_of_other_programs_equally(
    tmp_path: Path, program: str, rows: list[tuple[int, float, str, int]]
) -> None:
    _fill(tmp_path, [(b"", _write_as(program, rows))])
    for frame, left_out in _parsed(tmp_path):
        assert left_out == []
        assert [stamp.value for stamp in frame["Timepoint"]] == [row[0] for row in rows]
        assert list(frame["Measurement"]) == [row[1] for row in rows]
        assert [str(label) for label in frame["Label"]] == [row[2] for row in rows]
        assert list(frame["PID"]) == [row[3] for row in rows]


@pytest.mark.parametrize("label", ["b", 'a "b", c', ""])
@pytest.mark.parametrize("header", [CSV_HEADER, b'"Timepoint","Measurement","Label","PID"\n'])
def test_a_label_is_found_if_every_field_is_quoted(
    tmp_path: Path, header: bytes, label: str
) -> None:
    body = f'"1","0.5","{_doubled(label)}","7"\n"2","0.5","other","7"\n'.encode()
    name = str(FileName("duration", 0, 1000, 7, "0123456789abcdef", 1, 1, 0))
    (tmp_path / name).write_bytes(header + body)
    for frame, left_out in _parsed(tmp_path, Wanted(labels={label})):
        assert (list(frame["Label"]), left_out) == ([label], [])


@pytest.mark.parametrize(
    "header",
    [
        b'"Timepoint","Measurement","Label"\n',
        b"timepoint,measurement,label,pid\n",
        b"Measurement,Timepoint,Label,PID\n",
        b"Timepoint;Measurement;Label;PID\n",
        b"Timepoint,Measurement,Label,PID,Host\n",
        b'"Timepoint","Measurement","Label","PID\n',
        b"Timepoint,Measurement,Label,PID\r1,2,a,7\r",
        b"x" * 200_000,
        b"\0\n",
    ],
)
def test_a_file_with_another_header_is_left_out(tmp_path: Path, header: bytes) -> None:
    _fill(tmp_path, [(header, b"1,0.5,a,7\n")])
    for frame, left_out in _parsed(tmp_path):
        assert (len(frame), len(left_out)) == (0, 1)
