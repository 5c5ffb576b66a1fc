"""What looking at a recording costs: `aqltelemetry top`, and zooms in the page of `serve`.

`aqltelemetry top` shows 8 processes that record 5,000 durations per second.
It runs in a pseudo-terminal with the window of one minute, and draws once a second. Its processor
time is that of all its threads, also of those that look for findings, from five seconds after its
start on, for a minute. The recording processes run on the same machine; `recorded per s` is what
they achieved in all.

`aqltelemetry serve` shows ten million durations in 1,000 files (`reporting` writes them). It is
asked over HTTP for what the page asks for: the charts of the whole recording, and of 50 random
ranges of each length, in 400 bins. "ms" are the milliseconds from the request to the last byte of
the answer; "first" is the time from the start of the command to the first answer, with loading.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

import reporting
from _machine import describe
from _table import show

PROCESSES = 8
PER_S = 5000
WARM_UP_S = 5
MEASURED_S = 60
SIZES = ((80, 24), (200, 50))
ZOOMS = 50
LENGTHS_MS = {"an hour": 3_600_000, "a minute": 60_000, "a second": 1_000}
RECORDER = f"""
import signal, sys, time
from aqltelemetry import sync
sync.start(sys.argv[1])
labels = [f"/route/{{number}} [GET]" for number in range(10)]
going = [True]
signal.signal(signal.SIGTERM, lambda *_: going.clear())
print("recording", flush=True)
begin, done = time.monotonic(), 0
while going:
    due = int((time.monotonic() - begin) * {PER_S})
    while done < due:
        with sync.time_block(labels[done % 10]):
            pass
        done += 1
    time.sleep(0.01)
print(done / (time.monotonic() - begin), flush=True)
sync.stop()
"""


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    return (
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def read_for(fd: int, seconds: float) -> int:
    """Read what is drawn for a time; return the number of bytes."""
    end_s, read = monotonic() + seconds, 0
    while (left_s := end_s - monotonic()) > 0:
        if select.select([fd], [], [], left_s)[0]:
            read += len(os.read(fd, 1 << 16))
    return read


def measure(directory: str, columns: int, lines: int) -> tuple[float, float, float]:
    """Return the percent of a processor, bytes drawn per second, and MiB of memory."""
    fd, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    command = (sys.executable, "-m", "aqltelemetry", "top", directory)
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(
        command, stdin=inner, stdout=inner, stderr=inner, env=environment
    ) as process:
        read_for(fd, WARM_UP_S)
        before_s, begin_s = processor_s(process.pid), monotonic()
        read = read_for(fd, MEASURED_S)
        passed_s = monotonic() - begin_s
        used_s = processor_s(process.pid) - before_s
        memory_mib = resident_mib(process.pid)
        os.write(fd, b"q")
        read_for(fd, 1)
        process.send_signal(signal.SIGTERM)
    os.close(fd)
    os.close(inner)
    return used_s / passed_s * 100, read / passed_s, memory_mib


def measure_while_recording(columns: int, lines: int) -> Sequence[str | float]:
    """Return a row of the table."""
    with tempfile.TemporaryDirectory() as directory:
        recorders = [
            subprocess.Popen(
                (sys.executable, "-c", RECORDER, directory), stdout=subprocess.PIPE, text=True
            )
            for _ in range(PROCESSES)
        ]
        for recorder in recorders:
            assert recorder.stdout is not None
            recorder.stdout.readline()
        percent, drawn, memory_mib = measure(directory, columns, lines)
        for recorder in recorders:
            recorder.terminate()
        per_s = sum(float(recorder.communicate()[0]) for recorder in recorders)
    return f"{columns} x {lines}", percent, per_s, drawn / 1024, memory_mib


def ask(url: str) -> tuple[float, int]:
    """Return the milliseconds until an answer is complete, and its bytes."""
    begin_s = monotonic()
    with urlopen(url, timeout=600) as answer:
        size = len(answer.read())
    return (monotonic() - begin_s) * 1000, size


def measure_zooms() -> list[list[str | float | None]]:
    """Return the rows of the table of zooms."""
    dice = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run((sys.executable, reporting.__file__, "write", directory), check=True)
        port = free_port()
        url = f"http://127.0.0.1:{port}/strips?bins=400"
        command = (sys.executable, "-m", "aqltelemetry", "serve", "--port", str(port), directory)
        begin_s = monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            first = _first(url)
            loaded_ms = (monotonic() - begin_s) * 1000
            rows: list[list[str | float | None]] = [["first", 1, loaded_ms, None, first / 1024]]
            rows.append(_row("the whole recording", [ask(url) for _ in range(ZOOMS)]))
            span_ms = reporting.FILES // reporting.WORKERS * reporting.SPAN_NS / 1e6
            for name, length_ms in LENGTHS_MS.items():
                begins = [
                    reporting.START_NS / 1e6 + dice.random() * (span_ms - length_ms)
                    for _ in range(ZOOMS)
                ]
                urls = [f"{url}&begin={at:.3f}&end={at + length_ms:.3f}" for at in begins]
                rows.append(_row(name, [ask(each) for each in urls]))
            server.send_signal(signal.SIGINT)
    return rows


def _first(url: str) -> int:
    while True:
        try:
            return ask(url)[1]
        except URLError:
            sleep(0.02)


def _row(name: str, answers: Sequence[tuple[float, int]]) -> list[str | float | None]:
    times = [taken_ms for taken_ms, _ in answers]
    high = statistics.quantiles(times, n=20)[-1]
    return [name, len(times), statistics.median(times), high, answers[0][1] / 1024]


def main() -> None:
    """Measure, and print the tables."""
    describe()
    show(
        f"aqltelemetry top over {MEASURED_S} s, {PROCESSES} processes",
        {
            "terminal": "",
            "% of a processor": ".1f",
            "recorded per s": ",.0f",
            "KiB drawn per s": ",.0f",
            "MiB of memory": ",.0f",
        },
        [measure_while_recording(*size) for size in SIZES],
    )
    show(
        f"Charts of aqltelemetry serve over HTTP, of {reporting.FILES * 10_000:,} durations",
        {"range": "", "requests": "d", "ms": ",.1f", "95th percentile": ",.1f", "KiB": ",.0f"},
        measure_zooms(),
    )


if __name__ == "__main__":
    main()
