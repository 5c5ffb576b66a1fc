"""Writes values as JSON."""

from __future__ import annotations

import json
from typing import Any


def as_json(data: Any) -> bytes:
    """Return values as JSON without spaces."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
