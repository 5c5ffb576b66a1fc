"""Which requests this process handles at this moment; see `journal.in_flight`.

The slots are in `in_flight_slots`, which has a compiled twin. This module chooses between them;
all other modules import their functions from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal.in_flight import Request, read_slot
from aqltelemetry.system.extensions import choose

if TYPE_CHECKING:
    from aqltelemetry.recording import in_flight_slots as slots
else:
    slots = choose("aqltelemetry.recording.in_flight_slots")

NO_HANDLE = slots.NO_HANDLE
"""The handle of a request that begins while there are no slots."""
_MOST_ROUTES = 5000
install = slots.install
installed = slots.installed
claim = slots.claim
release = slots.release
used = slots.used
count = slots.count


def current_requests() -> Sequence[Request]:
    """Return the requests in flight in this process, the oldest first.

    It takes about a microsecond for each slot that was ever in use at the same time, and may be
    called on any thread. Requests without a slot are missing.
    """
    mapped = installed()
    found = []
    if mapped is not None:
        for slot in range(used()):
            try:
                request = read_slot(mapped, slot)
            except SegmentError:  # it is stored by another thread at this moment
                continue
            if request is not None:
                found.append(request)
    return sorted(found)


_routes: dict[str, None] = {}
_store: Callable[[Sequence[str]], None] | None = None


def note_routes(templates: Iterable[str]) -> None:
    """Keep the templates of an application's routes, by which requests in flight are named."""
    known = len(_routes)
    for template in templates:
        if len(_routes) < _MOST_ROUTES:
            _routes[template] = None
    if _store is not None and len(_routes) > known:
        _store([*_routes])


def store_routes_by(store: Callable[[Sequence[str]], None] | None) -> None:
    """Call a function with all routes whenever there are more; None to stop that."""
    global _store  # noqa: PLW0603 - there is one recording in a process
    _store = store


def known_routes() -> Sequence[str]:
    """Return the templates of the routes that are known."""
    return [*_routes]
