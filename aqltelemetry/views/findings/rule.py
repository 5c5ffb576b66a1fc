"""What a rule consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from aqltelemetry.views.findings.finding import Finding
from aqltelemetry.views.findings.recorded import Recorded


class Rule(NamedTuple):
    """A rule: its name, what it says in one sentence, and the function that applies it."""

    name: str
    meaning: str
    find: Callable[[Recorded], Iterable[Finding]]
