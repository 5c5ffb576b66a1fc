"""`aqltelemetry report`: summarises a recording."""

from __future__ import annotations

import gc
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aqltelemetry.audit import unpublished
from aqltelemetry.commands.options import (
    EXIT_INCOMPLETE,
    missing_extra,
    takes_directories,
    takes_journal_dir,
)
from aqltelemetry.commands.recordings import LoadProgress, open_recording, parse_moment
from aqltelemetry.errors import OptionError, TelemetryError
from aqltelemetry.reading.listing import summary
from aqltelemetry.views.columns import TABLES
from aqltelemetry.views.text_forms import to_csv, to_markdown

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB
    from aqltelemetry.views.document import Options

_ROWS = 20
_SLOW_IMPORTS = ("pandas", "aqltelemetry.views.document")
_SLOWEST = 5
_SLOWEST_OF_PAGE = 50
_SIMILAR = 5
_SWITCH_S = 0.0005


class _Report(click.Command):
    """The command; its help ends with the definitions of all columns."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the definition of each column."""
        del ctx
        for table, columns in TABLES.items():
            with formatter.section(f"Columns of {table}"):
                formatter.write_dl([(each.head, each.meaning) for each in columns])


@click.command(cls=_Report)
@takes_directories
@click.option("--since", metavar="TIME", help="Include observations of this time or later.")
@click.option("--until", metavar="TIME", help="Include observations before this time.")
@click.option(
    "--label",
    "labels",
    metavar="GLOB",
    multiple=True,
    help="Show only these labels; * and ? stand for any text and any character. Repeatable.",
)
@click.option("--sort", metavar="COLUMN", help="Sort each table that has this column by it.")
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(0),
    help=f"Rows of each table; 0 for all.  [default: {_ROWS}; all for --json and --csv]",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--csv", "form", flag_value="csv", help="Print a table as CSV.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice([*TABLES]),
    help="Print only this table. Repeatable, except with --csv.  [default: all; durations as CSV]",
)
@click.option(
    "--pid", "pids", metavar="N", multiple=True, type=int, help="Only this process. Repeatable."
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a page with charts, too: one file for any browser.",
)
@takes_journal_dir
@click.pass_context
def report(context: click.Context, /, directories: Sequence[Path], **chosen: Any) -> None:
    """Summarise recordings: what is wrong, what is slow, and where.

    \b
    TIME is one of
      5m, 1h30m, "2 days ago"        before now
      14:30, yesterday               today at 14:30; yesterday at 0:00
      2026-11-24, "2026-11-24 10:00", 2026-11-24T10:00:00+01:00
      1795489012                     seconds or nanoseconds since the epoch
    in the local time zone, unless it names one: Z, UTC, +01:00, Europe/Berlin.

    Durations and times are printed in milliseconds unless a head says otherwise, and clock
    times in local time. JSON and CSV have seconds, bytes, and UTC. Percentiles are exact, with
    linear interpolation between the two nearest observations. What a killed or running process
    has not yet published is included.
    """  # noqa: D301 - click's mark for lines that are not to be filled
    choice = _Choice(**chosen)
    with _without_collections(), LoadProgress() as progress:
        if choice.sort is not None or find_spec("pandas") is None:
            choice.document_options()  # says what is wrong before anything is read
        with _imported_meanwhile(*_SLOW_IMPORTS, *(["rich.table"] if choice.form is None else [])):
            db = choice.open(directories, progress)
        options = choice.document_options()
        _check_not_empty(db, directories, choice)
        progress.stage("computing")
        made = _document(db, options, choice.html)
    _check_labels(made, choice, db)
    _show(made, choice)
    if choice.form is None:
        for line in _notes(db, directories, choice):
            click.echo(line)
    if any(each.is_lost for each in db.not_read()):
        context.exit(EXIT_INCOMPLETE)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage: imports leave little, and each collection looks at all objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # else the next collection would look at all of them
            gc.enable()


@contextmanager
def _imported_meanwhile(*modules: str) -> Iterator[None]:
    """Import modules while files are read, mostly without the interpreter's lock."""
    usual_s = sys.getswitchinterval()
    # So often the reading threads get the lock, which they need for a moment.
    sys.setswitchinterval(_SWITCH_S)
    try:
        with ThreadPoolExecutor(1, "aqltelemetry-imports") as pool:
            for module in modules:
                pool.submit(import_module, module)
            yield
    finally:
        sys.setswitchinterval(usual_s)


class _Choice(NamedTuple):
    """The values of the options."""

    since: str | None
    until: str | None
    labels: Sequence[str]
    sort: str | None
    top: int | None
    form: str | None
    tables: Sequence[str]
    pids: Sequence[int]
    html: str | None
    journal_dir: str | None

    def open(self, directories: Sequence[Path], progress: LoadProgress) -> TelemetryDB:
        """Return the chosen observations; raises UsageError for a wrong time."""
        if self.form == "csv" and len(self.tables) > 1:
            raise click.UsageError("--csv prints one --table")
        return open_recording(
            directories,
            parse_moment("--since", self.since),
            parse_moment("--until", self.until),
            self.journal_dir,
            pids=self.pids or None,
            progress=progress.files,
        )

    def document_options(self) -> Options:
        """Return what the document is to contain; raises UsageError for an unknown column."""
        try:
            from aqltelemetry.views.document import Options  # noqa: PLC0415 - slow to import
        except ImportError as exc:
            raise missing_extra("report", exc) from exc
        top = self.top
        if top is None:
            top = 0 if self.form in {"json", "csv"} else _ROWS
        try:
            return Options(
                labels=self.labels, sort=self.sort, top=top, slowest=self.top or _SLOWEST
            )
        except OptionError as exc:
            raise click.UsageError(f"--sort {exc.value!r} {exc.rule}") from exc


def _document(db: TelemetryDB, options: Options, page: str | None) -> dict[str, Any]:
    """Return the document; write it as a page, too, if a path is given."""
    from aqltelemetry.views.document import document, shortened  # noqa: PLC0415 - slow to import

    if page is None:
        return document(db, options)
    # The page shows more rows, of a document that is computed once.
    slowest = max(options.slowest, _SLOWEST_OF_PAGE)
    whole = document(db, replace(options, top=0, slowest=slowest))
    _write_page(db, page, whole)
    return shortened(whole, options)


def _check_not_empty(db: TelemetryDB, directories: Sequence[Path], choice: _Choice) -> None:
    if any(len(db.rows(prefix)) for prefix in db.prefixes()):
        return
    shown = ", ".join(map(str, directories))
    if db.prefixes():
        limits = ("--since", choice.since), ("--until", choice.until), ("--pid", choice.pids)
        given = " and ".join(name for name, value in limits if value)
        text = f"{shown}: nothing was recorded within {given}"
    else:
        text = (
            f"{shown}: nothing is recorded there yet\n"
            f"what records there, and what does not work: "
            f"aqltelemetry doctor {shlex.quote(str(directories[0]))}"
        )
    raise click.ClickException("\n".join([text, *_notes(db, directories, choice)]))


def _check_labels(made: Mapping[str, Any], choice: _Choice, db: TelemetryDB) -> None:
    if not choice.labels or made["durations"] or made["values"]:
        return
    known = [label for prefix in db.prefixes() for label in db.frame(prefix).labels()]
    close = [each for pattern in choice.labels for each in get_close_matches(pattern, known)]
    shown = ", ".join(close or known[:_SIMILAR])
    patterns = " or ".join(map(repr, choice.labels))
    raise click.ClickException(f"no label matches {patterns}; there are: {shown}")


def _notes(db: TelemetryDB, directories: Iterable[Path], choice: _Choice) -> Iterable[str]:
    """Yield a line on what is not yet published, and one on files that are not read."""
    for directory in directories:
        if text := _unpublished(directory, choice.journal_dir):
            yield f"not yet published, but included: {text}"
    if db.not_read():
        yield summary(db.not_read())


def _unpublished(directory: Path, journal_dir: str | None) -> str:
    """Describe the observations in the journal; "" if there are none or it can't be read."""
    try:
        found = unpublished.count(str(directory), journal_dir)
        return unpublished.describe(found, str(directory))
    except (TelemetryError, OSError):
        return ""


def _show(made: Mapping[str, Any], choice: _Choice) -> None:
    """Print a document in the chosen form."""
    tables = choice.tables or [*TABLES]
    if choice.form == "json":
        click.echo(json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False))
    elif choice.form == "csv":
        click.echo(to_csv(made, (choice.tables or ["durations"])[0]), nl=False)
    elif choice.form == "markdown":
        click.echo(to_markdown(made, tables), nl=False)
    else:
        _show_on_terminal(made, tables)


def _write_page(db: TelemetryDB, path: str, values: Mapping[str, Any]) -> None:
    try:
        from aqltelemetry.views.html import write_html  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("report", exc) from exc
    try:
        write_html(db, path, values)
    except OSError as exc:
        raise click.ClickException(f"{path} can't be written: {exc.strerror}") from exc


def _show_on_terminal(made: Mapping[str, Any], tables: Sequence[str]) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to import

        from aqltelemetry.views.report import render  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise missing_extra("report", exc) from exc
    render(made, Console(highlight=False), tables, is_plain=not sys.stdout.isatty())
