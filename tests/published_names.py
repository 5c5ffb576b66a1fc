"""Names of published files."""

from __future__ import annotations

from aqltelemetry.sinks import stall_details
from aqltelemetry.sinks.file_names import parse


def is_published(name: str) -> bool:
    """Return whether a name is that of a published file: of rows, or of the details of stalls."""
    return parse(name) is not None or stall_details.parse(name) is not None
