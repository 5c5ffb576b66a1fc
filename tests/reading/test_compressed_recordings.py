"""A recording is counted equally after its files were compressed or copied."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from aqltelemetry import Monitor, record, time_block
from aqltelemetry.audit import published
from aqltelemetry.commands.cli import main


async def _record(directory: Path) -> None:
    async with Monitor(directory):
        for number in range(10):
            with time_block("work"):
                record("own", number)


def _compress_all(directory: Path, suffix: str, *, keep: bool = False) -> None:
    for path in directory.glob("*.csv"):
        text = path.read_bytes()
        compressed = gzip.compress(text) if suffix == ".gz" else zstandard.compress(text)
        path.with_name(path.name + suffix).write_bytes(compressed)
        if not keep:
            path.unlink()


def _sum(directory: Path) -> str:
    result = CliRunner().invoke(main, ("verify", str(directory)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_verify_counts_compressed_files(directory: Path, suffix: str) -> None:
    await _record(directory)
    proof, names = _sum(directory), published.names(str(directory))
    before = published.count(str(directory), names)
    _compress_all(directory, suffix)
    assert _sum(directory) == proof
    assert published.names(str(directory)) == names
    assert published.count(str(directory), names) == before
    assert before.rows["custom"] == 10
    report = CliRunner().invoke(main, ("report", str(directory)))
    assert "custom  own       10" in report.output


async def test_copies_are_not_reported_as_duplicates(directory: Path) -> None:
    await _record(directory)
    proof, names = _sum(directory), published.names(str(directory))
    before = published.count(str(directory), names)
    for path in list(directory.glob("*.csv")):
        path.with_name(f"{path.stem} (copy).csv").write_bytes(path.read_bytes())
        path.with_name(f"backup-{path.name}").write_bytes(path.read_bytes())
    _compress_all(directory, ".gz", keep=True)
    assert _sum(directory) == proof
    assert published.count(str(directory), published.names(str(directory))) == before


async def test_a_truncated_compressed_file_is_found(directory: Path) -> None:
    await _record(directory)
    _compress_all(directory, ".zst")
    path = next(directory.glob("custom.*"))
    path.write_bytes(path.read_bytes()[:-3])
    result = CliRunner().invoke(main, ("verify", str(directory)))
    assert result.exit_code == 1
    assert published.count(str(directory), published.names(str(directory))).rows["custom"] == 0
