"""Runs the fault matrix, prints its table, and writes that of `--long` into docs/reliability.md."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import gmtime, strftime
from typing import NamedTuple

from _document import RELIABILITY, put, table
from _machine import describe

_ROOT = Path(__file__).parent.parent
_LONG = {
    "KILLS": "250",
    "MUTANTS": "100000",
    "FORKS": "1000",
    "SECONDS": "600",
    "EXAMPLES": "500",
    "CALLS": "10000000",
    "ORPHANS": "50000",
    "HUPS": "20",
    "BLOCKED_S": "5",
}
_SUM = "sum "
"""How the names of properties begin that are added up over the tests of a row."""
_COUNTED = ("lost", "duplicated", "damaged")
_COLUMNS = (
    *("row", "fault: injected how", "runs", *_COUNTED, "hangs"),
    *("wanted", "got"),
)


class Row(NamedTuple):
    """A fault, how it is caused, what is wanted, and the tests of it.

    The tests count what `counted` names, and fail if there is any.
    """

    number: str
    fault: str
    how: str
    wanted: str
    tests: Sequence[str]
    counted: Sequence[str] = _COUNTED


_ROWS = ("lost", "duplicated")
_NOTHING = "lost 0, duplicated 0"
ROWS = (
    Row(
        "1, 2, 4",
        "SIGKILL of writers and of recoverers",
        "the storm, with a witness in shared memory; samplers and garbage collector callbacks on",
        "lost 0, duplicated 0, damaged 0, at most one extra record per thread",
        (
            "test_row_01_02_04",
            "test_a_killed_process_loses",
            "test_many_threads_that_are_killed",
            "test_row_04",
            "test_two_simultaneous_recoveries",
        ),
    ),
    Row(
        "2",
        "drops, then SIGKILL",
        "values that are not numbers, then SIGKILL",
        "drop count exact, with its time",
        ("test_row_02",),
    ),
    Row(
        "3",
        "SIGKILL before each system call",
        "each call of create, seal, publish, recover in turn",
        "100 % of points: lost 0, duplicated 0, left over 0; a second recovery does nothing",
        ("test_row_03",),
    ),
    Row(
        "5",
        "OOM kill",
        "by the kernel, in a control group of 80 MiB; where the journal is, in a container",
        "lost 0; the journal on the volume",
        ("test_row_05", "test_in_a_container_the_journal"),
    ),
    Row(
        "6",
        "`_exit`, SIGSEGV, SIGABRT, `sys.exit`",
        "each, after 100 observations",
        "lost 0",
        ("test_row_06",),
    ),
    Row(
        "7, 8, 9",
        "ends of Gunicorn's workers",
        "stop, reload, max_requests, timeout, SIGKILL, SIGINT, SIGQUIT, a stuck request; "
        "seven classes, requests counted outside",
        "answered = in the files, in every cell",
        ("test_each_answered_request",),
    ),
    Row(
        "7",
        "an exit without a stop",
        "the end of a program",
        "lost 0",
        ("test_row_07",),
        counted=_ROWS,
    ),
    Row(
        "10",
        "SIGKILL of Gunicorn's master",
        "SIGKILL under load, a second master while its workers live",
        "no file touched by both, lost 0",
        ("test_row_10",),
    ),
    Row(
        "11",
        "forks of a recording process with threads",
        "`os.fork` with 8 threads and a loop at work",
        "0 hangs, 0 observations of the parent under a child's PID, a fork at most 1 ms longer",
        ("test_row_11", "test_a_pool_of_processes", "test_a_childs"),
    ),
    Row(
        "12",
        "preloading",
        "`--preload`, 8 workers, HUP after HUP",
        "threads +0, descriptors +0 in the master; workers record from the first request",
        ("test_row_12",),
        counted=("lost",),
    ),
    Row(
        "13, 15",
        "owner dead, its child alive; zombies",
        "fork, kill without wait",
        "its segments are free within 100 ms",
        ("test_row_13", "test_a_kill_frees", "test_a_living_child"),
        counted=_ROWS,
    ),
    Row(
        "14",
        "one PID in two containers",
        "two PID namespaces, one directory",
        _NOTHING,
        ("test_row_14",),
    ),
    Row(
        "16",
        "restarts within a second",
        "50 starts in a row, every other one an hour back",
        "0 files replaced",
        ("test_row_16",),
    ),
    Row(
        "17, 18, 19",
        "full disk: at a segment, after it, at a file",
        "tmpfs of 16 MB, filled",
        "lost 0, drops exact, no part of a file visible, goes on within 5 s",
        ("test_row_17", "test_a_segment_that_can_not_be_allocated", "test_a_full_disk"),
    ),
    Row(
        "20",
        "a segment truncated by others",
        "modes of all files in the journal",
        "only the owner may",
        ("test_row_20",),
        counted=(),
    ),
    Row(
        "21",
        "files deleted at any time",
        "a reader that deletes 1,000 times a second",
        "0 errors, all accounted",
        ("test_row_21",),
    ),
    Row(
        "22",
        "directory or journal removed, replaced",
        "`rm -rf` while recording",
        "publishing continues within 5 s; the unpublished is not lost",
        ("test_row_22", "test_a_directory_that_is_removed", "test_a_journal_that_is_removed"),
    ),
    Row("23", "read-only file system", "remount", "lost 0, application unaware", ("test_row_23",)),
    Row(
        "24",
        "errors of each system call",
        "the n-th fails, once (EIO) or from then on (ENOSPC)",
        "100 % of points: lost 0, duplicated 0; the application sees none",
        ("test_row_24", "test_a_failing_system_call"),
    ),
    Row(
        "25",
        "a write that hangs",
        "blocked by a gate, as long as 1,000 observations take",
        "only the publisher waits; the p99 of a record at most 1 ms longer",
        ("test_row_25",),
    ),
    Row(
        "26",
        "file system frozen",
        "`fsfreeze` of a loop mount with the files; the journal in memory",
        "recording goes on, no record takes longer than 1 ms",
        ("test_row_26",),
    ),
    Row(
        "27",
        "no descriptors left",
        "RLIMIT_NOFILE, all held",
        "0 errors, lost 0 after",
        ("test_row_27",),
    ),
    Row("28", "limit to file sizes", "RLIMIT_FSIZE of 64 KiB", "as a full disk", ("test_row_28",)),
    Row(
        "29",
        "no hard links; two file systems",
        "EPERM; journal in /dev/shm",
        _NOTHING,
        ("test_row_29", "test_without_hard_links"),
    ),
    Row(
        "30",
        "damaged segments",
        "flips, overwrites, moves, cuts, holes, lost headers",
        "0 exceptions, 0 false rows, at most 50 ms per MiB",
        ("test_row_30", "test_no_damage", "test_what_is_no_segment", "test_a_copy_of"),
        counted=(),
    ),
    Row(
        "31",
        "killed while a segment is made",
        "SIGKILL at each call; a `.new` left",
        "left over 0",
        ("test_a_segment_that_was_being_made", "test_row_03_a_kill_at_each_call_loses"),
    ),
    Row(
        "32",
        "thousands of segments of dead processes at a start",
        "segments of killed processes, four each; then a start",
        "ready at most 50 ms later, memory of 2 segments more, 10 % of a processor",
        ("test_row_32",),
        counted=_ROWS,
    ),
    Row(
        "33",
        "a stuck sink",
        "never returns; full rate",
        "journal within its limit, RSS within 16 MiB more, drops exact",
        ("test_row_33",),
        counted=("lost",),
    ),
    Row(
        "34",
        "nobody deletes",
        "ten times the bytes to keep",
        "total within the limit, removals accounted",
        ("test_row_34",),
    ),
    Row(
        "35",
        "recording during recording",
        "collector callbacks, signal handlers, `__del__`, weak references",
        "0 hangs, lost 0",
        ("test_row_35", "test_collector_callbacks", "test_signal_handlers", "test_objects_record"),
    ),
    Row(
        "36",
        "double cancels",
        "10,000 tasks",
        "all recorded",
        ("test_ten_thousand_doubly",),
        counted=("lost",),
    ),
    Row(
        "37",
        "the sink's task cancelled",
        "at each await",
        "lost 0, no half file",
        ("test_row_37", "test_a_write_cancelled"),
        counted=_ROWS,
    ),
    Row(
        "38",
        "loop blocked, second loop",
        "`time.sleep` in it, two runs",
        "a lag of that length, lost 0",
        ("test_row_38", "test_an_event_loop_that_ended"),
    ),
    Row(
        "39",
        "default executor full",
        "40 jobs that wait",
        "from record to file at most 50 ms",
        ("test_row_39",),
        counted=("lost",),
    ),
    Row(
        "40",
        "hostile labels",
        "Unicode at random, through files and readers",
        "equal after the documented cleaning",
        (
            "test_row_40",
            "test_any_label_is",
            "test_a_label_that_looks_like",
            "test_durations_are_read_back",
        ),
    ),
    Row(
        "41",
        "unlimited labels",
        "110,000 labels",
        "memory within 4 MiB, count exact",
        ("test_row_41", "test_observations_beyond"),
        counted=("lost",),
    ),
    Row(
        "42",
        "faults in the hot path",
        "a segment that raises",
        "caught, counted",
        ("test_a_fault_in_aqltelemetry",),
        counted=(),
    ),
    Row(
        "43",
        "wall clock steps",
        "an hour, both ways",
        "order kept, a row shows the step",
        ("test_a_step_of_the_wall_clock", "test_timepoints_never"),
        counted=(),
    ),
    Row(
        "44",
        "hostile directories",
        "pipe, link, directory, second name, another's directory",
        "never followed, no hang",
        (
            "test_row_44",
            "test_a_planted_link",
            "test_a_directory_of_somebody",
            "test_a_directory_that_others",
        ),
        counted=_ROWS,
    ),
    Row(
        "45",
        "power loss",
        "a copy of a loop mount's image during the recording, after `sync`",
        "each file readable, a start works",
        ("test_row_45",),
        counted=("damaged",),
    ),
    Row(
        "all",
        "any of these, in any order",
        "record, seal, write, flush, crash, recover, delete, full disk, clock step",
        "accepted = rows + journal + removed + torn, after every step",
        ("runTest",),
    ),
)


class _Case(NamedTuple):
    name: str
    passed: bool
    skipped: str
    properties: dict[str, str]


def _cases(path: str) -> Iterator[_Case]:
    for case in ET.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        yield _Case(
            case.get("name", ""),
            case.find("failure") is None and case.find("error") is None and skipped is None,
            "" if skipped is None else skipped.get("message", "skipped"),
            {each.get("name", ""): each.get("value", "") for each in case.iter("property")},
        )


def matching(row: Row, names: Iterable[str]) -> list[str]:
    """Return the names of tests that belong to a row."""
    return [name for name in names if name.startswith(tuple(row.tests))]


def _cells(row: Row, cases: Sequence[_Case]) -> list[str]:
    names = set(matching(row, (case.name for case in cases)))
    mine = [case for case in cases if case.name in names]
    runs = sum(int(case.properties.get("runs", "1")) for case in mine if case.passed)
    failed = [case.name for case in mine if not case.passed and not case.skipped]
    skipped = sorted({case.skipped for case in mine if case.skipped})
    got = "; ".join([*_results(mine), *skipped]) or "as wanted"
    if failed:
        got = f"**failed: {', '.join(failed)}**"
    passed = bool(runs and not failed)
    zeros = ["0" if passed and name in row.counted else "-" for name in _COUNTED]
    fault = f"{row.fault}: {row.how}"
    return [row.number, fault, f"{runs:,}", *zeros, "0" if passed else "-", row.wanted, got]


def _results(cases: Sequence[_Case]) -> Iterator[str]:
    """Yield the results of tests, and the sums of what several of them count."""
    yield from (case.properties["got"] for case in cases if "got" in case.properties)
    sums: Counter[str] = Counter()
    for case in cases:
        for name, value in case.properties.items():
            if name.startswith(_SUM):
                sums[name.removeprefix(_SUM)] += int(value)
    yield from (f"{value:,} {name}" for name, value in sums.items())


def main() -> None:
    """Run all tests of the rows and show the table; a test fails at any loss."""
    environment = {**(_LONG if "--long" in sys.argv else {}), **os.environ}
    names = sorted({name for row in ROWS for name in row.tests})
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-k", " or ".join(names)]
        command += [
            "-o",
            "timeout=0",
            "-o",
            "faulthandler_timeout=0",
            "-o",
            "junit_family=xunit1",
            f"--junit-xml={report.name}",
        ]
        done = subprocess.run(command, cwd=_ROOT, env=environment, check=False, stdout=sys.stderr)
        cases = list(_cases(report.name))
    when = strftime("%d %B %Y", gmtime())
    made = table(_COLUMNS, [_cells(row, cases) for row in ROWS])
    print(made)
    if not done.returncode and "--long" in sys.argv:
        put(RELIABILITY, "matrix", f"{'; '.join(describe())}; {when}.\n\n{made}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
