"""Each published file is listed once, and files that are not read are reported."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from aqltelemetry.reading.listing import NotRead, list_published, summary
from aqltelemetry.sinks.file_names import FileName

_NAME = str(FileName("duration", 0, 2000, 7, "0123456789abcdef", 1, 2, 0))
_OTHER = str(FileName("duration", 5000, 9000, 7, "0123456789abcdef", 3, 3, 0))
_TEXT = b"Timepoint,Measurement,Label,PID\n1,0.5,x,7\n"


def _write(directory: Path, *names: str, text: bytes = _TEXT) -> None:
    for name in names:
        (directory / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)


def _list(directory: Path) -> tuple[list[str], dict[str, bool]]:
    listing = list_published(str(directory))
    return sorted(listing.files), {each.name: each.is_lost for each in listing.not_read}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", [_NAME, "duration.1700000000.csv", "queue.mine.csv"])
def test_a_file_is_listed_compressed_or_not(tmp_path: Path, name: str, suffix: str) -> None:
    _write(tmp_path, name + suffix)
    assert list_published(str(tmp_path))[:2] == ({name + suffix: name}, [])


@pytest.mark.parametrize(
    "copy",
    [
        f"{_NAME}.gz",
        f"{_NAME}.zst",
        _NAME.replace(".csv", " (copy).csv"),
        _NAME.replace(".csv", "(1).csv"),
        _NAME.replace(".csv", "-1.csv"),
        _NAME.replace(".csv", ".1.csv"),
        _NAME.replace(".csv", " (copy).csv.gz"),
        f"Copy of {_NAME}",
        f"backup-{_NAME}",
        f"backup-{_NAME}.gz",
        f"old.{_NAME}",
        f"{_NAME}.bz2",
        f"{_NAME}.zip",
        f"{_NAME}.bak",
        f"{_NAME}~",
    ],
)
def test_a_copy_is_left_out_and_named(tmp_path: Path, copy: str) -> None:
    _write(tmp_path, _OTHER, _NAME, copy)
    os.utime(tmp_path / _NAME, (1, 1))  # the copy is newer
    assert _list(tmp_path) == ([_NAME, _OTHER], {copy: False})


def test_a_copy_in_another_directory_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    _write(tmp_path, _NAME, f"backup/{_NAME}")
    assert _list(tmp_path) == ([_NAME], {})


@pytest.mark.parametrize(
    "name", [f"Copy of {_NAME}", _NAME.replace(".csv", " (copy).csv"), f"{_NAME}.gz"]
)
def test_a_renamed_file_keeps_its_identity(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name)
    assert list_published(str(tmp_path))[:2] == ({name: _NAME}, [])


def test_one_of_two_copies_is_read_without_the_original(tmp_path: Path) -> None:
    one, two = f"Copy of {_NAME}", _NAME.replace(".csv", " (another copy).csv")
    _write(tmp_path, one, two)
    assert _list(tmp_path) == ([one], {two: False})


@pytest.mark.parametrize(
    "name",
    [
        f"{_NAME}.bz2",
        f"{_NAME}.zip",
        f"{_NAME}.txt",
        _NAME.replace(".csv", ".parquet"),
        _NAME.replace(".csv", ".CSV"),
        "runtime.1700000000.csv.xz",
        "account.1.csv.7z",
    ],
)
def test_a_file_with_an_unknown_suffix_is_reported(tmp_path: Path, name: str) -> None:
    _write(tmp_path, _OTHER, name)
    assert _list(tmp_path) == ([_OTHER], {name: True})


@pytest.mark.parametrize(
    "name", ["notes.txt", "profiler.7.data", "duration.0123456789abcdef.1.tmp", f".{_NAME}.Xa3"]
)
def test_other_files_are_not_mentioned(tmp_path: Path, name: str) -> None:
    _write(tmp_path, name)
    assert list_published(str(tmp_path))[:2] == ({}, [])


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("older", ["plain", "compressed"])
def test_the_older_of_two_forms_is_read(tmp_path: Path, older: str, suffix: str) -> None:
    """The newer one is made from it and may be incomplete."""
    plain, compressed = _NAME, _NAME + suffix
    _write(tmp_path, plain, compressed)
    source, made = (plain, compressed) if older == "plain" else (compressed, plain)
    os.utime(tmp_path / source, (1, 1))
    assert _list(tmp_path) == ([source], {made: False})


def test_a_prefix_that_ends_like_another_is_not_a_copy(tmp_path: Path) -> None:
    """Even if it was recorded at the same time, in the same segments."""
    _write(tmp_path, _NAME)
    _write(tmp_path, f"slow-{_NAME}", text=_TEXT.replace(b"0.5", b"1.5"))
    assert _list(tmp_path) == ([_NAME, f"slow-{_NAME}"], {})


def test_the_summary_is_one_line() -> None:
    lost = [NotRead(f"{number}.csv.bz2", "why") for number in range(3)]
    copies = [NotRead("a (copy).csv", "it is a copy of a.csv", is_lost=False)]
    assert summary(lost) == "3 files not read, such as 0.csv.bz2: why"
    assert summary(copies) == "left out: a (copy).csv: it is a copy of a.csv"
    assert summary([*copies, *lost]) == f"{summary(lost)}; {summary(copies)}"


def test_details_of_stalls_and_autopsies_are_no_files_of_rows(tmp_path: Path) -> None:
    identity = _NAME.removeprefix("duration.").removesuffix(".csv")
    others = (
        f"stall-details.{identity}.jsonl",
        f"autopsy.{identity}.json",
        f"autopsy.{identity}.txt",
    )
    _write(tmp_path, _NAME, *others)
    assert _list(tmp_path) == ([_NAME], {})
