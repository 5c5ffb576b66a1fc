"""The built-in destinations, by the scheme of their URL.

To add one: write `shipping/destinations/<name>.py` with a function `destination(target)` that
returns an object as `aqltelemetry.shipping.destination.Destination` describes it, and list its
schemes below.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from aqltelemetry.errors import MissingExtraError, OptionError
from aqltelemetry.shipping.destination import Destination
from aqltelemetry.shipping.target import Target

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "chdb": "clickhouse",
        "clickhouse": "clickhouse",
        "clickhouses": "clickhouse",
        "crate": "crate",
        "crates": "crate",
        "file": "parquet",
        "gs": "parquet",
        "postgresql": "postgresql",
        "postgres": "postgresql",
        "s3": "parquet",
        "otlp+http": "otlp",
        "otlp+https": "otlp",
        "remote-write+http": "remote_write",
        "remote-write+https": "remote_write",
    }
)
"""The module in `shipping/destinations/` of each scheme."""
_EXTRAS = {"crate": "aiohttp", "parquet": "pyarrow"}  # others are named as their module


def make_destination(target: Target) -> Destination:
    """Return the destination of a URL; raises OptionError, or MissingExtraError."""
    scheme = target.parts.scheme
    module = MODULES.get(scheme)
    if module is None:
        rule = f"must be a URL that begins with {', '.join(f'{each}:' for each in sorted(MODULES))}"
        raise OptionError("to", str(target), rule)
    try:
        found = import_module(f"aqltelemetry.shipping.destinations.{module}")
    except ImportError as exc:
        extra = _EXTRAS.get(module, module.replace("_", "-"))
        raise MissingExtraError(extra, exc) from exc
    made: Destination = found.destination(target)
    return made
