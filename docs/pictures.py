"""Makes the pictures of the documentation from a real recording: that of `examples/incident`.

Commands run in a pseudo-terminal, and what it shows becomes an SVG; pages are opened in Chromium.

    python docs/pictures.py [--recording DIR] [--to DIR]
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pyte
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.style import Style
from rich.text import Text

from aqltelemetry import TelemetryDB

_ROOT = Path(__file__).parent.parent
_IMAGES = _ROOT / "docs" / "img"
_CHROMIUM = "/usr/bin/chromium"
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_COLOURS = 128
_SETTLED_S = 5.0  # a program that draws live has drawn its data
_BRIGHT = {"brown": "yellow"}  # what pyte calls yellow


def main() -> None:
    """Write the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--recording", type=Path, help="a recording; by default a new one")
    arguments.add_argument("--to", type=Path, default=_IMAGES)
    given = arguments.parse_args()
    given.to.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        recording = given.recording or _record(Path(scratch) / "incident")
        to = given.to.absolute()
        os.chdir(recording.parent)
        name = recording.name
        _terminal(["report", name], to / "report.svg", (96, 48))
        end_s = TelemetryDB(name).writers()["end"].max().timestamp()
        at = ["--window", "all", "--at", str(math.ceil(end_s)), "--speed", "0.01"]
        _terminal(["top", name, *at], to / "top.svg", (112, 30), keys="q")
        _page(name, Path(scratch), to / "page.png")
        timeline = TelemetryDB(name).plot.timeline("/orders/{id} [GET]", workers=False)
        timeline.savefig(to / "plot-orders.png", dpi=100)


def _record(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(_ROOT / "examples" / "incident" / "incident.py", folder)
    subprocess.run([sys.executable, "incident.py"], cwd=folder, env=_environment(), check=True)
    return folder / "_monitoring"


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TERM": "xterm-256color", "COLORTERM": "truecolor"}


def _aqltelemetry(arguments: list[str]) -> None:
    subprocess.run(["aqltelemetry", *arguments], env=_environment(), check=True)


def _terminal(arguments: list[str], path: Path, size: tuple[int, int], keys: str = "") -> None:
    """Draw what a command shows on a terminal of `size`, columns and lines."""
    columns, lines = size
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe("aqltelemetry", ["aqltelemetry", *arguments], _environment())
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    shown = _read(terminal, stream, screen) if keys else _read_all(terminal, stream, screen)
    if keys:
        os.write(terminal, keys.encode())
        _read_all(terminal, stream, screen)
    os.close(terminal)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(f"{arguments}: {screen.display}")
    console = Console(record=True, width=columns, file=open(os.devnull, "w"))  # noqa: SIM115
    for line in shown:
        console.print(line, no_wrap=True, crop=True)
    svg = console.export_svg(title=f"aqltelemetry {arguments[0]}")
    path.write_text(_FONTS.sub("", svg))


def _read(terminal: int, stream: pyte.ByteStream, screen: pyte.Screen) -> list[Text]:
    """Return the lines some seconds after the first ones."""
    until_s = float("inf")
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([terminal], [], [], min(left_s, _SETTLED_S))[0]:
            stream.feed(os.read(terminal, 1 << 16))
        if until_s == float("inf") and any(line.strip() for line in screen.display):
            until_s = time.monotonic() + _SETTLED_S
    return _styled(screen)


def _read_all(terminal: int, stream: pyte.ByteStream, screen: pyte.Screen) -> list[Text]:
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the command has ended
            return _styled(screen)
        if not data:
            return _styled(screen)
        stream.feed(data)


def _styled(screen: pyte.Screen) -> list[Text]:
    """Return the lines of a screen, without the empty ones at its end."""
    lines = []
    for number in range(screen.lines):
        line, cells = Text(), screen.buffer[number]
        for column in range(screen.columns):
            cell = cells[column]
            style = Style(
                color=_colour(cell.fg),
                bgcolor=_colour(cell.bg),
                bold=cell.bold,
                italic=cell.italics,
                underline=cell.underscore,
                reverse=cell.reverse,
            )
            line.append(cell.data, style)
        lines.append(line)
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    name = _BRIGHT.get(name, name)
    return f"bright_{name[6:]}" if name.startswith("bright") else name


def _page(recording: str, scratch: Path, path: Path) -> None:
    """Draw the HTML report as Chromium shows it."""
    report = scratch / "report.html"
    _aqltelemetry(["report", recording, "--html", str(report)])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(report.as_uri())
        page.wait_for_selector("canvas")
        page.screenshot(path=path)
        browser.close()
    with Image.open(path) as image:
        image.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
