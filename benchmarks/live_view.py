"""What `aqltelemetry top` costs while it shows 8 processes that record 5,000 durations per second.

It runs in a pseudo-terminal with the window of one minute, and draws once a second. Its processor
time is that of all its threads, also of those that look for findings, from five seconds after its
start on, for a minute. The recording processes run on the same machine; `recorded per s` is what
they achieved in all.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from _machine import describe
from _table import show

PROCESSES = 8
PER_S = 5000
WARM_UP_S = 5
MEASURED_S = 60
SIZES = ((80, 24), (200, 50))
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


def main() -> None:
    """Measure, and print the table."""
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


if __name__ == "__main__":
    main()
