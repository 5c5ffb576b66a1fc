from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from rich.text import Text

from aqltelemetry import Monitor, time_block
from aqltelemetry.commands.cli import main
from aqltelemetry.sinks.file_names import FileName, enclosing
from aqltelemetry.system.clock import epoch_ns
from aqltelemetry.views.columns import TABLES
from fakes import EPOCH_NS
from terminal import run_on_terminal

_ROW = f"Timepoint,Measurement,Label,PID\n{EPOCH_NS},0.5,/version [GET],7\n"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def _cells(text: str, first: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{first} "))
    return re.split(r" {2,}", line)


def test_a_report_shows_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    assert "/version [GET]" in result.output


def test_a_report_collects_no_garbage_of_what_it_has_imported_and_loaded(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    program = """
import gc, sys
from aqltelemetry.commands.cli import main
main(["report", sys.argv[1]], standalone_mode=False)
gen0, *_ = gc.get_count()
print(gc.isenabled(), gc.get_freeze_count() > 100_000, gen0 < 10_000)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True True True"


def test_a_report_covers_a_time_span(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW + f"{EPOCH_NS + 10**9},0.5,/later [GET],7\n")
    result = _run("report", str(tmp_path), "--since", "2023-11-14T22:13:21Z")
    assert "/later [GET]" in result.output
    assert "/version [GET]" not in result.output


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("text", ["yesteryear", "", "5", "5x", "2026-13-01"])
def test_a_wrong_time_is_a_usage_error_that_shows_examples(
    tmp_path: Path, option: str, text: str
) -> None:
    result = _run("report", str(tmp_path), option, text)
    assert result.exit_code == 2
    assert f"{option} {text!r} must be a time, such as 5m, '1 hour ago'" in result.output


@pytest.mark.parametrize("text", ["5m", "-5m", "5m ago", "1 hour ago", "yesterday"])
def test_times_may_be_relative(tmp_path: Path, text: str) -> None:
    rows = f"{epoch_ns() - 30 * 10**9},0.5,/now [GET],7\n"
    (tmp_path / "duration.1.csv").write_text(_ROW + rows)
    result = _run("report", str(tmp_path), "--since", text)
    assert result.exit_code == 0
    assert "/now [GET]" in result.output
    assert "/version [GET]" not in result.output
    assert "/now [GET]" not in _run("report", str(tmp_path), "--until", text).output


def test_a_report_on_an_empty_directory_names_the_command_that_explains_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    result = _run("report", str(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path}: nothing is recorded there yet\n" in result.output
    assert result.output.endswith(f"aqltelemetry doctor {tmp_path}\n")


def test_a_report_on_a_time_without_observations_says_so(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path), "--since", "2030-01-01")
    assert result.exit_code == 1
    assert "nothing was recorded within --since" in result.output


@pytest.mark.parametrize("text", ["a,b\n1,2\n", f"{_ROW}x,y,z\n", f"{_ROW}1"])
def test_a_foreign_or_damaged_file_is_reported_and_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    (tmp_path / "duration.2.csv").write_text(text)
    (tmp_path / "runtime.2.csv").write_text(text)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 3
    assert "/version [GET]" in result.output
    assert "2 files not read, such as duration.2.csv: " in result.output


def test_a_report_of_compressed_files_and_copies_is_complete(tmp_path: Path) -> None:
    name = FileName("duration", *enclosing(EPOCH_NS, EPOCH_NS), 7, "0" * 16, 1, 1, 0)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(_ROW.encode()))
    (tmp_path / f"Copy of {name}").write_text(_ROW)
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    assert _cells(result.output, "/version [GET]")[1] == "1"
    assert f"left out: Copy of {name}: it is a copy of {name}.gz" in result.output


def test_recorded_values_are_reported(tmp_path: Path) -> None:
    rows = "".join(f"{EPOCH_NS + n},{n}.5,queue length,7\n" for n in range(3))
    (tmp_path / "custom.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    result = _run("report", str(tmp_path))
    assert result.exit_code == 0
    expected = ["custom", "queue length", "3", "0.5", "1.5", "2.5", "2.5"]
    assert _cells(result.output, "custom") == expected


def test_a_time_may_be_nanoseconds(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    assert _run("report", str(tmp_path), "--since", str(EPOCH_NS)).exit_code == 0
    assert _run("report", str(tmp_path), "--until", str(EPOCH_NS)).exit_code == 1


def test_the_report_is_one_json_object(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    made = json.loads(_run("report", str(tmp_path), "--json").output)
    assert made["version"] == 1
    assert made["durations"][0]["label"] == "/version [GET]"


def test_the_report_is_a_table_of_csv(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    head, row = _run("report", str(tmp_path), "--csv").output.splitlines()
    assert head.startswith("label,count,per_s,")
    assert row.startswith("/version [GET],1,1.0,")
    workers = _run("report", str(tmp_path), "--csv", "--table", "workers").output
    assert workers.startswith("pid,writer,")


def test_only_one_table_is_printed_as_csv(tmp_path: Path) -> None:
    tables = ("--table", "workers", "--table", "durations")
    result = _run("report", str(tmp_path), "--csv", *tables)
    assert (result.exit_code, "--csv prints one --table" in result.output) == (2, True)


def test_the_report_is_markdown(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    assert "| `/version [GET]` | 1 |" in _run("report", str(tmp_path), "--markdown").output


def _write_labels(directory: Path, number: int) -> None:
    rows = "".join(f"{EPOCH_NS + n},{n}.5,label {n:03},7\n" for n in range(number))
    (directory / "duration.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")


def test_many_labels_do_not_flood_the_screen(tmp_path: Path) -> None:
    _write_labels(tmp_path, 300)
    shown = _run("report", str(tmp_path)).output
    assert shown.count("\nlabel ") - 1 == 20
    assert "and 280 more labels: --top 0" in shown
    assert _run("report", str(tmp_path), "--top", "0").output.count("\nlabel ") - 1 == 300
    assert len(_run("report", str(tmp_path), "--csv").output.splitlines()) == 301
    assert len(_run("report", str(tmp_path), "--csv", "--top", "3").output.splitlines()) == 4


def test_labels_are_chosen(tmp_path: Path) -> None:
    _write_labels(tmp_path, 30)
    shown = _run("report", str(tmp_path), "--label", "label 01*", "--label", "label 02?").output
    assert shown.count("\nlabel ") - 1 == 20


def test_a_pattern_that_matches_nothing_is_an_error_with_similar_labels(tmp_path: Path) -> None:
    _write_labels(tmp_path, 30)
    result = _run("report", str(tmp_path), "--label", "label 7")
    assert result.exit_code == 1
    assert "no label matches 'label 7'; there are: label 0" in result.output


def test_tables_are_sorted_by_a_column(tmp_path: Path) -> None:
    _write_labels(tmp_path, 30)
    shown = _run("report", str(tmp_path), "--sort", "p99", "--table", "durations").output
    labels = re.findall(r"label (\d+)", shown)
    assert labels == [f"{29 - n:03}" for n in range(20)]


def test_an_unknown_column_is_a_usage_error_that_lists_all(tmp_path: Path) -> None:
    result = _run("report", str(tmp_path), "--sort", "p42")
    assert result.exit_code == 2
    assert "--sort 'p42' must be a column: label, count, per s, 4xx" in result.output


def test_in_a_pipe_there_are_neither_lines_nor_colors_nor_a_width(tmp_path: Path) -> None:
    label = "/a/long/path" * 30
    (tmp_path / "duration.1.csv").write_text(_ROW.replace("/version", label))
    shown = _run("report", str(tmp_path)).output
    assert f"\n{label} [GET]      1    1.0" in shown
    assert shown.isascii()
    assert "\x1b" not in shown
    assert not any(line.endswith(" ") for line in shown.splitlines())


def test_the_help_defines_each_column() -> None:
    shown = " ".join(_run("report", "--help").output.split())
    for columns in TABLES.values():
        for column in columns:
            assert f"{column.head} {column.meaning[:10]}" in shown


async def test_a_report_contains_what_is_not_yet_published(directory: Path) -> None:
    journal = str(directory / "journal")
    async with Monitor(directory, with_runtime=False, journal_dir=journal):
        with time_block("work"):
            pass
        result = _run("report", str(directory), "--journal-dir", journal)
    assert result.exit_code == 0
    assert _cells(result.output, "work")[1] == "1"
    assert "not yet published, but included: 1 observation of 1 running process" in result.output


_KILLED = """
import os, signal, sys
from aqltelemetry import sync
sync.start(sys.argv[1], with_runtime=False)
with sync.time_block("work"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.system
def test_a_report_names_the_command_that_publishes_what_a_killed_process_left(
    directory: Path,
) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(directory)], check=False, timeout=60)
    shown = _run("report", str(directory)).output
    assert _cells(shown, "work")[1] == "1"
    assert "1 observation of 1 killed process (to publish: aqltelemetry recover " in shown
    assert _run("recover", str(directory)).exit_code == 0
    assert "not yet published" not in _run("report", str(directory)).output


def test_several_directories_are_reported_together(tmp_path: Path) -> None:
    for number, place in enumerate(("a", "b")):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"duration.{number}.csv").write_text(_ROW)
    result = _run("report", str(tmp_path / "a"), "--dir", str(tmp_path / "b"))
    assert _cells(result.output, "/version [GET]")[1] == "2"
    assert result.output.startswith(f"{tmp_path / 'a'}, {tmp_path / 'b'}: ")


def test_processes_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW + f"{EPOCH_NS},0.5,/other [GET],8\n")
    shown = _run("report", str(tmp_path), "--pid", "8", "--csv").output
    assert [line.split(",")[0] for line in shown.splitlines()] == ["label", "/other [GET]"]
    result = _run("report", str(tmp_path), "--pid", "9")
    assert (result.exit_code, "nothing was recorded within --pid" in result.output) == (1, True)


def test_a_page_is_written_too(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path), "--html", str(tmp_path / "page.html"))
    assert "/version [GET]" in result.output
    assert "/version [GET]" in (tmp_path / "page.html").read_text()


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "duration.1.csv").write_text(_ROW)
    result = _run("report", str(tmp_path), "--html", str(tmp_path / "none" / "page.html"))
    assert result.exit_code == 1
    assert "page.html can't be written: No such file or directory" in result.output


_LONG = "/api/v1/customers/{customer}/orders/{order}/lines/{line}/notes [GET]"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording with long and wide labels, errors, several workers and drops."""
    directory = tmp_path_factory.mktemp("wide")
    labels = [_LONG, f"{_LONG} 5xx", "日本語のラベル" * 5, "short"]
    rows = "".join(f"{EPOCH_NS + n},{n}.5,{labels[n % 4]},{4_000_000 + n % 3}\n" for n in range(90))
    (directory / "duration.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    samples = ("rss,4000000", "telemetry dropped no segment,4000001")
    rows = "".join(f"{EPOCH_NS},123456789,{sample}\n" for sample in samples)
    (directory / "runtime.1.csv").write_text(f"Timepoint,Measurement,Label,PID\n{rows}")
    return directory


@pytest.mark.system
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(wide: Path, columns: int) -> None:
    status, shown = run_on_terminal(["aqltelemetry", "report"], columns, wide, AQLTELEMETRY_DIR=".")
    lines = Text.from_ansi(shown).plain.split("\n")
    assert status == 0
    assert max(map(cell_len, lines)) <= columns
    assert any(line.startswith("─") for line in lines)
    assert "\x1b[" in shown
    assert any(line.startswith("short ") and " 22 " in line for line in lines)


@pytest.mark.system
def test_a_terminal_without_colors_gets_none(wide: Path) -> None:
    _, shown = run_on_terminal(["aqltelemetry", "report", "."], 80, wide, NO_COLOR="1")
    colors = {
        int(code) for codes in re.findall(r"\x1b\[([\d;]*)m", shown) for code in codes.split(";")
    }
    assert colors <= {0, 1, 2, 3}  # bold, dim and italic are no colors


@pytest.mark.system
def test_colors_may_be_forced_into_a_pipe(wide: Path) -> None:
    variables = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "aqltelemetry", "report", str(wide)]
    shown = subprocess.run(
        command, env=variables, check=True, capture_output=True, text=True
    ).stdout
    assert "\x1b[31m" in shown
    assert "─" not in shown
