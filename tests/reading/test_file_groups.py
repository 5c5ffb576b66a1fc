from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from aqltelemetry.observation import CSV_HEADER, quote_field
from aqltelemetry.reading.file_groups import GONE, GroupReader
from aqltelemetry.sinks.file_names import FileName

_OURS = str(FileName("duration", 0, 1000, 7, "0123456789abcdef", 1, 1, 0))


def _row(label: str, number: int = 1) -> bytes:
    return f"{number},0.5,{label},7\n".encode()


def _read(
    directory: Path, names: Collection[str], labels: Collection[str] | None = None
) -> tuple[list[dict[str, bytes]], dict[str, str]]:
    """Return the rows of each group by file, and the files that were left out, with reasons."""
    left_out: dict[str, str] = {}
    groups = [
        {part.name: bytes(group.rows[part.start : part.end]) for part in group.parts}
        for group in GroupReader(labels, left_out.__setitem__).groups(str(directory), names)
    ]
    return groups, left_out


def test_rows_of_many_files_are_in_one_buffer(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_bytes(CSV_HEADER + _row("x", number))
    reader = GroupReader(None, lambda name, _: pytest.fail(name))
    (group,) = reader.groups(str(tmp_path), [f"{number}.csv" for number in range(3)])
    assert bytes(group.rows[: group.end]) == b"".join(_row("x", number) for number in range(3))
    assert [part.name for part in group.parts] == ["0.csv", "1.csv", "2.csv"]


@pytest.mark.parametrize("rows", [b"", _row("x"), _row("x") + _row("y", 2)])
@pytest.mark.parametrize("last", [b"", b"9,1,last,7"])
@pytest.mark.parametrize("header", [b"Timepoint,Measurement,Label,PID\r\n", CSV_HEADER])
def test_a_file_is_complete_with_or_without_a_last_line_end(
    tmp_path: Path, header: bytes, rows: bytes, last: bytes
) -> None:
    (tmp_path / "a.csv").write_bytes(header + rows + last)
    groups, left_out = _read(tmp_path, ["a.csv"])
    assert groups == [{"a.csv": rows + (last and last + b"\n")}]
    assert not left_out


@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_a_pipe_or_directory_is_left_out_without_waiting(tmp_path: Path, kind: str) -> None:
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(CSV_HEADER + _row("x"))
    groups, left_out = _read(tmp_path, ["a.csv", "b.csv"])
    assert groups == [{"b.csv": _row("x")}]
    assert list(left_out) == ["a.csv"]


def test_a_header_alone_needs_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CSV_HEADER.strip())
    assert _read(tmp_path, ["a.csv"]) == ([{"a.csv": b""}], {})


def test_files_with_spaces_are_in_a_separate_group(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"Timepoint, Measurement, Label, PID\r\n1, 2, x, 7")
    (tmp_path / "b.csv").write_bytes(CSV_HEADER + _row("x"))
    (tmp_path / "c.csv").write_bytes(b"Timepoint, Measurement, Label, PID\n3, 4, x, 7\n")
    reader = GroupReader(None, lambda name, _: pytest.fail(name))
    found = [
        (group.spaced, bytes(group.rows[: group.end]))
        for group in reader.groups(str(tmp_path), ["a.csv", "b.csv", "c.csv"])
    ]
    assert found == [(False, _row("x")), (True, b"1, 2, x, 7\n3, 4, x, 7\n")]


def test_groups_have_a_limited_size_and_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aqltelemetry.reading.file_groups._FIRST_BYTES", 100)
    monkeypatch.setattr("aqltelemetry.reading.file_groups._GROUP_BYTES", 1000)
    spaced = b"Timepoint, Measurement, Label, PID\n"
    wanted = {}
    for number in range(200):
        rows = b"".join(_row("x", line) for line in range(number % 60))
        wanted[f"{number:03}.csv"] = rows
        (tmp_path / f"{number:03}.csv").write_bytes((spaced if number % 3 else CSV_HEADER) + rows)
    groups, left_out = _read(tmp_path, list(wanted))
    assert {name: rows for group in groups for name, rows in group.items()} == wanted
    assert max(len(b"".join(group.values())) for group in groups) <= 1000
    assert not left_out


@pytest.mark.parametrize("header", [CSV_HEADER, b"Timepoint, Measurement, Label, PID\n"])
def test_a_file_larger_than_a_group_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    monkeypatch.setattr("aqltelemetry.reading.file_groups._FIRST_BYTES", 100)
    monkeypatch.setattr("aqltelemetry.reading.file_groups._GROUP_BYTES", 1000)
    wanted = {"a.csv": _row("a"), "b.csv": _row("b") * 1000, "c.csv": _row("c")}
    for name, rows in wanted.items():
        (tmp_path / name).write_bytes(header + rows)
    groups, _ = _read(tmp_path, list(wanted))
    assert {name: rows for group in groups for name, rows in group.items()} == wanted


def test_short_reads_of_a_file_system_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_bytes(CSV_HEADER + _row("x") * 100)
    whole = os.readv

    def in_pieces(fd: int, buffers: tuple[bytearray | memoryview, ...]) -> int:
        *head, room = buffers
        return whole(fd, (*head, memoryview(room)[:50]))

    monkeypatch.setattr(os, "readv", in_pieces)
    assert _read(tmp_path, ["a.csv"]) == ([{"a.csv": _row("x") * 100}], {})


def test_a_file_with_another_header_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b,c\n1,2,3\n")
    (tmp_path / "b.csv").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(CSV_HEADER + _row("x"))
    (tmp_path / "d.csv").mkdir()
    groups, left_out = _read(tmp_path, ["a.csv", "b.csv", "c.csv", "d.csv", "gone.csv"])
    assert groups == [{"c.csv": _row("x")}]
    assert left_out == {
        "a.csv": "its header is b'a,b,c'",
        "b.csv": "its header is b''",
        "d.csv": "[Errno 21] Is a directory",
        "gone.csv": GONE,
    }


def _labelled(*labels: str) -> bytes:
    """Return rows with runs of some hundred per label, as in a file of several segments."""
    segment = b"".join(_row(label, number) for label in labels for number in range(1000))
    return segment * 2


def test_few_rows_of_other_labels_are_kept(tmp_path: Path) -> None:
    labels = [f"/{number} [GET]" for number in range(20)]
    (tmp_path / _OURS).write_bytes(CSV_HEADER + _labelled(*labels))
    for wanted in (labels[:1], labels[7:8], labels[-1:], labels[3:6], [labels[2], labels[12]]):
        ((rows,),) = (group.values() for group in _read(tmp_path, [_OURS], wanted)[0])
        lines = rows.splitlines()
        kept = [line for line in lines if line.split(b",")[2].decode() in wanted]
        assert len(kept) == 2000 * len(wanted)
        assert len(lines) <= len(kept) + 4 * len(wanted) * 150


def test_no_row_of_a_file_without_the_label_is_kept(tmp_path: Path) -> None:
    for rows in (_row("x"), _row("x") * 10_000):
        (tmp_path / _OURS).write_bytes(CSV_HEADER + rows)
        assert _read(tmp_path, [_OURS], ["y"])[0] == [{_OURS: b""}]


@pytest.mark.parametrize("label", ["x", 'a "b", c', "", "é", "a,b", "\ud800", "\\n", "x" * 200])
def test_every_row_of_a_label_is_kept(tmp_path: Path, label: str) -> None:
    """Also if other labels are similar, and its rows are scattered."""
    field = '"' + label.replace('"', '""') + '"' if set(label) & set(',"') or not label else label
    rows = [field, "a,x,b", f"{field}x", field, "other", field]
    rows = [f'"{each}"' if each == "a,x,b" else each for each in rows]
    text = "".join(f"1,0.5,{each},7\n" for each in rows * 300).encode("utf-8", "surrogatepass")
    (tmp_path / _OURS).write_bytes(CSV_HEADER + text)
    ((found,),) = (group.values() for group in _read(tmp_path, [_OURS], [label])[0])
    wanted = f",{field},".encode("utf-8", "surrogatepass")
    assert found.count(wanted) == text.count(wanted) >= 900


@pytest.mark.parametrize("label", [" x", "x ", " x "])
@pytest.mark.parametrize("field", [quote_field, str])
def test_rows_with_spaces_at_the_ends_of_their_label_are_kept_with_quotes_and_without(
    tmp_path: Path, label: str, field: Callable[[str], str]
) -> None:
    wanted = [_row(field(text)) for text in (label, f"{label} 5xx")]
    others = _row("other") * 2000
    (tmp_path / _OURS).write_bytes(CSV_HEADER + others.join([b"", *wanted, b""]))
    ((found,),) = (group.values() for group in _read(tmp_path, [_OURS], [label])[0])
    assert all(row in found for row in wanted)
    assert len(found) < len(others)


def test_foreign_files_are_not_searched_and_neither_are_many_labels(tmp_path: Path) -> None:
    rows = _labelled("x", "y")
    for name, labels in (("duration.mine.csv", ["y"]), (_OURS, [str(n) for n in range(9)])):
        (tmp_path / name).write_bytes(CSV_HEADER + rows)
        assert _read(tmp_path, [name], labels)[0] == [{name: rows}]
