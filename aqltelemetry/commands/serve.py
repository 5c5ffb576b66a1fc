"""`aqltelemetry serve`: shows a recording in a browser, live."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aqltelemetry.commands.options import missing_extra, takes_directories, takes_journal_dir
from aqltelemetry.errors import MomentError, OptionError, TelemetryError
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.priority import go_last

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB


@click.command()
@takes_directories
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. Any but one of this machine alone needs a token.",
)
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 for any free one.",
)
@click.option(
    "--token",
    envvar="AQLTELEMETRY_TOKEN",
    metavar="TEXT",
    help="What a browser must know. Other users of this machine can see it here; the environment "
    "variable AQLTELEMETRY_TOKEN hides it from them. By default one is made where it is needed.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further name of this server, such as that of a proxy in front of it.",
)
@click.option("--since", metavar="TIME", help="Include observations of this time or later.")
@click.option("--until", metavar="TIME", help="Include observations before this time.")
@takes_journal_dir
@click.option(
    "--metrics",
    "has_metrics",
    is_flag=True,
    help="Answer the scrapes of Prometheus at /metrics, under the same conditions as the page.",
)
@click.option(
    "--metrics-buckets",
    "buckets",
    metavar="SECONDS,...",
    help="Upper bounds of the buckets of durations.  [default: 0.001,0.0025,0.005,0.01,...,10]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser of this machine.")
def serve(*, directories: Sequence[Path], **chosen: Any) -> None:
    """Show recordings live in a browser.

    The page is that of `report --html`, and follows the recording while it goes on.
    Ctrl-C ends it. Recorded processes are not touched: the files and the journal
    are only read, and only while somebody looks.

    With --metrics, Prometheus gets at /metrics what is recorded from now on. It needs
    aqltelemetry[prometheus].

    On an address that other machines can reach, a token is needed to see the page.
    It is part of the URL that is printed. The connection is not encrypted: use a
    tunnel (ssh -L 8765:127.0.0.1:8765 HOST) or a proxy with TLS.

    `aqltelemetry report --help` describes TIME.
    """
    try:
        from aqltelemetry.views.serve import access, server  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("aiohttp", exc) from exc
    choice = _Choice(**chosen)
    since_ns, until_ns = _moment("--since", choice.since), _moment("--until", choice.until)
    token = choice.token
    if token is not None and len(token) < access.MIN_TOKEN_CHARS:
        raise click.UsageError(f"--token: must have at least {access.MIN_TOKEN_CHARS} characters")
    if token is None and server.needs_token(choice.host):
        token = access.new_token()

    address = server.Address(choice.host, choice.port, token, choice.names)

    title = ", ".join(map(str, directories))

    def load() -> TelemetryDB:
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - slow to import

        return TelemetryDB(
            directories,
            since=since_ns,
            until=until_ns,
            live=True,
            journal_dir=choice.journal_dir,
        )

    def ready(url: str) -> None:
        click.echo(f"{title} is shown at {url} until Ctrl-C")
        if choice.opens:
            webbrowser.open(url)

    extend = _metrics([*map(str, directories)], choice) if choice.has_metrics else None
    # What is recorded on this machine goes first.
    go_last()
    try:
        server.serve(load, title, address, ready, extend)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc


class _Choice(NamedTuple):
    """The values of the options."""

    host: str
    port: int
    token: str | None
    names: Sequence[str]
    since: str | None
    until: str | None
    journal_dir: str | None
    has_metrics: bool
    buckets: str | None
    opens: bool


def _metrics(directories: Sequence[str], choice: _Choice) -> Callable[[Any], None]:
    """Return a function that adds the route of the metrics to the application."""
    try:
        from aqltelemetry.shipping.metrics import buckets  # noqa: PLC0415 - slow to import
        from aqltelemetry.views.metrics import routes  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise missing_extra("prometheus", exc) from exc
    bounds = buckets.DEFAULT_BOUNDS
    if choice.buckets is not None:
        try:
            bounds = buckets.parse_bounds("--metrics-buckets", choice.buckets)
        except OptionError as exc:
            raise click.UsageError(str(exc)) from exc

    def extend(application: Any) -> None:
        routes.add_metrics(application, directories, choice.journal_dir, bounds)

    return extend


def _moment(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else moment_ns(text, option)
    except MomentError as exc:
        raise click.UsageError(f"{option} {text!r} {exc.rule}") from exc
