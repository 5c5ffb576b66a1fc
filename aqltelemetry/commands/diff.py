"""`aqltelemetry diff`: compares two recordings, or two times of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aqltelemetry.commands.options import (
    EXIT_INCOMPLETE,
    complete_directory,
    existing,
    missing_extra,
)
from aqltelemetry.commands.recordings import open_recording, parse_moment
from aqltelemetry.errors import OptionError
from aqltelemetry.reading.listing import summary

if TYPE_CHECKING:
    from aqltelemetry.views.comparison.conditions import Condition
    from aqltelemetry.views.comparison.durations import Durations

EXIT_FAILED = 1
"""Exit status if a condition of --fail-if holds."""
_TOP = 10
_STYLES = {"slower": "red", "faster": "green", "title": "bold", "dim": "dim"}


@click.command()
@click.argument("recordings", metavar="[A] [B]", nargs=-1, shell_complete=complete_directory)
@click.option(
    "--at", metavar="TIME", help="Compare what is before with what is after, of one recording."
)
@click.option("--since", metavar="TIME", help="Only observations from then on, of A and of B.")
@click.option("--until", metavar="TIME", help="Only observations before then, of A and of B.")
@click.option("--a-since", metavar="TIME", help="As --since, of A only.")
@click.option("--a-until", metavar="TIME", help="As --until, of A only.")
@click.option("--b-since", metavar="TIME", help="As --since, of B only.")
@click.option("--b-until", metavar="TIME", help="As --until, of B only.")
@click.option(
    "--label",
    "labels",
    metavar="GLOB",
    multiple=True,
    help="Only these labels; * and ? stand for any text and any character. Repeatable.",
)
@click.option(
    "--min-effect",
    metavar="PERCENT",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="The smallest change of a percentile or rate that counts.",
)
@click.option(
    "--fail-if",
    metavar="CONDITION",
    multiple=True,
    help="Exit with 1 if it holds with confidence. Repeatable.",
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(0),
    default=_TOP,
    show_default=True,
    help="Labels of each part; 0 for all.",
)
@click.option("--json", "form", flag_value="json", help="Print one JSON object.")
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option(
    "--html", "html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page, too."
)
@click.pass_context
def diff(context: click.Context, /, recordings: Sequence[str], **chosen: Any) -> None:
    """Compare two recordings: what got slower or faster.

    \b
      aqltelemetry diff before/ after/
      aqltelemetry diff --at 14:30                     before and after 14:30
      aqltelemetry diff --a-until 14:00 --b-since 15:00
      aqltelemetry diff base/ new/ --fail-if "p95 > +10%" --fail-if "errors > +1%"

    \b
    CONDITION is [label:GLOB] MEASURE > +N% or < -N%, and MEASURE one of
      p50, p95, p99  durations that 50, 95, 99 % of the observations do not exceed
      rate           observations per second of recording
      errors         the share with a status of 400 or more, a disconnected client or
                     an exception; N is in percentage points
    It holds if the whole interval of the change is beyond N.

    The interval of a change is from a block bootstrap: all intervals of a comparison contain
    the true changes with 99.9 % confidence. A change is certain if its interval does not
    contain 0, and it is at least --min-effect.

    \b
    Exit status
      0  no condition holds, or there is none
      1  a condition of --fail-if holds
      2  wrong use
      3  a condition could not be decided for any label, or files could not be read
    """  # noqa: D301 - click's mark for lines that are not to be filled
    choice = _Choice(**chosen)
    conditions = choice.conditions()
    sides = _sides(recordings, choice)
    (a, lost_a), (b, lost_b) = (_load(side, choice.labels) for side in sides)
    compared = _compare(a, b, choice.min_effect / 100, conditions)
    _show(compared, choice)
    if any(each["holds"] for each in compared["conditions"]):
        context.exit(EXIT_FAILED)
    if lost_a or lost_b or any(not each["decided"] for each in compared["conditions"]):
        context.exit(EXIT_INCOMPLETE)


class _Choice(NamedTuple):
    """The values of the options."""

    at: str | None
    since: str | None
    until: str | None
    a_since: str | None
    a_until: str | None
    b_since: str | None
    b_until: str | None
    labels: Sequence[str]
    min_effect: float
    fail_if: Sequence[str]
    top: int
    form: str | None
    html: str | None

    def conditions(self) -> Sequence[Condition]:
        """Return what is not to happen; raises UsageError."""
        from aqltelemetry.views.comparison.conditions import (  # noqa: PLC0415 - slow to import
            parse_condition,
        )

        try:
            return [parse_condition(text) for text in self.fail_if]
        except OptionError as exc:
            raise click.UsageError(f"--fail-if {exc.value!r} {exc.rule}") from exc

    def moment(self, *names: str) -> int | None:
        """Return the time of the first of these options that is given."""
        for name in names:
            text: str | None = getattr(self, name)
            if text is not None:
                return parse_moment(f"--{name.replace('_', '-')}", text)
        return None

    @property
    def has_two_times(self) -> bool:
        """Whether A and B differ in time."""
        return any(
            each is not None
            for each in (self.at, self.a_since, self.a_until, self.b_since, self.b_until)
        )


class _Side(NamedTuple):
    """A recording, or a time of it."""

    directory: Path
    name: str
    since_ns: int | None
    until_ns: int | None


def _sides(recordings: Sequence[str], choice: _Choice) -> tuple[_Side, _Side]:
    if len(recordings) > 2:  # noqa: PLR2004 - A and B
        raise click.UsageError("give two recordings, or one with --at or other times")
    two = len(recordings) == 2  # noqa: PLR2004 - as above
    if choice.at is not None and two:
        raise click.UsageError("--at divides one recording; for two, use --a-until and --b-since")
    if not two and not choice.has_two_times:
        raise click.UsageError("give two recordings, or a time that divides one: --at TIME")
    first, last = (recordings[0], recordings[-1]) if recordings else (None, None)
    return (
        _Side(
            existing(first),
            f"{existing(first)}" if two else f"{existing(first)}, earlier",
            choice.moment("a_since", "since"),
            choice.moment("a_until", "at", "until"),
        ),
        _Side(
            existing(last),
            f"{existing(last)}" if two else f"{existing(last)}, later",
            choice.moment("b_since", "at", "since"),
            choice.moment("b_until", "until"),
        ),
    )


def _load(side: _Side, labels: Sequence[str]) -> tuple[Durations, bool]:
    """Return the durations of a side, and whether some files could not be read."""
    db = open_recording([side.directory], side.since_ns, side.until_ns)
    from aqltelemetry.views.comparison.durations import durations  # noqa: PLC0415 - slow
    from aqltelemetry.views.document import Options  # noqa: PLC0415 - as above

    if db.not_read():
        click.echo(f"{side.name}: {summary(db.not_read())}", err=True)
    found = durations(db, side.name, Options(labels=labels).has)
    if not found.labels:
        what = f" of {' or '.join(labels)}" if labels else ""
        raise click.ClickException(f"{side.name}: no durations{what} were recorded then")
    return found, any(each.is_lost for each in db.not_read())


def _compare(
    a: Durations, b: Durations, min_effect: float, conditions: Sequence[Condition]
) -> dict[str, Any]:
    from aqltelemetry.views.comparison.compare import Options, compare  # noqa: PLC0415 - slow
    from aqltelemetry.views.comparison.conditions import examine  # noqa: PLC0415 - as above

    compared = compare(a, b, Options(min_effect=min_effect))
    return {**compared, "conditions": examine(compared, conditions)}


def _show(compared: Mapping[str, Any], choice: _Choice) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra, and slow to import
        from rich.text import Text  # noqa: PLC0415 - as above

        from aqltelemetry.views.comparison import text  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise missing_extra("report", exc) from exc
    if choice.html is not None:
        _write_page(compared, choice.html)
    if choice.form == "json":
        click.echo(json.dumps(compared, indent=2, ensure_ascii=False, allow_nan=False))
    elif choice.form == "markdown":
        click.echo(text.markdown(compared, choice.top), nl=False)
    else:
        console = Console(highlight=False)
        width = console.width if sys.stdout.isatty() else None
        for line in text.lines(compared, choice.top, width):
            console.print(Text(line.text, _STYLES.get(line.kind, "")), soft_wrap=True)


def _write_page(compared: Mapping[str, Any], path: str) -> None:
    try:
        from aqltelemetry.views.comparison.page import page  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("report", exc) from exc
    try:
        Path(path).write_text(page(compared), encoding="utf-8")
    except OSError as exc:
        raise click.ClickException(f"{path} can't be written: {exc.strerror}") from exc
