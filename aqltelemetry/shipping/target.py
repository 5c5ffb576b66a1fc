"""Where to ship to: a URL, without secrets in what is printed, and the options of shipping."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit


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
    """

    url: str = field(repr=False)
    origin: Origin = Origin()
    retention_days: int | None = None

    @property
    def parts(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)

    def __str__(self) -> str:
        """Return the URL without user, password and query, as it may be printed."""
        parts = self.parts
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()
