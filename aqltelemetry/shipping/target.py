"""Where to ship to: a URL, without secrets in what is printed, and the options of shipping."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from aqltelemetry.errors import OptionError

# The options of a URL that say where the rows go. All others, such as those of TLS, may change
# while the destination stays the same.
_PLACES = frozenset(
    {"bucket", "database", "db", "dbname", "host", "port", "prefix", "schema", "table"}
)
_SECRETS = ("auth", "cred", "key", "pass", "secret", "token")


@dataclass(frozen=True, slots=True)
class Origin:
    """What all rows of a shipper have in common, as columns, tags or resource attributes."""

    host: str = ""
    service: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A destination's URL and the options that concern destinations.

    Attributes:
        url: The URL, which may contain a password.
        origin: The machine and service that the recordings are from.
        retention_days: After how many days a destination that can expire rows does so.
        shipper: Identifies the ledger of the shipper, as 16 hexadecimal digits, so that a
            destination recognizes its own earlier connections.
    """

    url: str = field(repr=False)
    origin: Origin = Origin()
    retention_days: int | None = None
    shipper: str = ""

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL; raises OptionError if it has none."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:  # whose text may contain a password
            raise _wrong_url() from None
        rest = f"{parts.path}{parts.query}{parts.fragment}"
        if ":" in parts.netloc and "@" not in parts.netloc and "@" in rest:
            raise _wrong_url()
        return parts

    def __str__(self) -> str:
        """Return the URL without user, password and query, as it may be printed."""
        parts = self.parts
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()

    @property
    def identity(self) -> str:
        """The text that identifies the destination, whatever the user, password and options."""
        places = [item for item in parse_qsl(self.parts.query) if item[0] in _PLACES]
        return f"{self}?{urlencode(sorted(places))}" if places else str(self)

    @property
    def has_secret(self) -> bool:
        """Whether the URL contains a password, a token or a key."""
        names = [name.lower() for name, _ in parse_qsl(self.parts.query)]
        return bool(self.parts.password) or any(
            secret in name for name in names for secret in _SECRETS
        )


def _wrong_url() -> OptionError:
    rule = "is not a URL; in a user and a password, write / as %2F, # as %23, ? as %3F, @ as %40"
    return OptionError("to", "...", rule)
