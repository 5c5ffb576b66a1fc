"""Reading many files in several threads, and what stays in memory after it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.reading import csv_frames
from aqltelemetry.reading.csv_frames import Wanted, read_rows
from aqltelemetry.reading.file_groups import GroupReader


def _files(directory: Path, count: int) -> list[str]:
    names = [f"duration.{number:03}.csv" for number in range(count)]
    for number, name in enumerate(names):
        (directory / name).write_bytes(CSV_HEADER + f"{number},0.5,label {number},7\n".encode())
    return names


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(labels={"label 1"})])
def test_the_buffers_of_a_reader_are_freed_without_the_garbage_collector(
    tmp_path: Path, wanted: Wanted
) -> None:
    names = _files(tmp_path, 100)
    gc.collect()
    gc.disable()
    try:
        assert len(read_rows(str(tmp_path), names, wanted).timepoints_ns)
        assert not [each for each in gc.get_objects() if type(each) is GroupReader]
    finally:
        gc.enable()


@pytest.mark.parametrize("processors", [1, 4])
def test_rows_are_in_the_order_of_the_files_with_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(processors))
    monkeypatch.setattr(csv_frames, "_CHUNK_FILES", 3)
    names = _files(tmp_path, 40)
    (tmp_path / names[20]).write_bytes(b"no telemetry\n")
    left_out: list[str] = []
    rows = read_rows(str(tmp_path), names, leave_out=lambda name, _: left_out.append(name))
    assert rows.timepoints_ns.tolist() == [number for number in range(40) if number != 20]
    assert left_out == [names[20]]
