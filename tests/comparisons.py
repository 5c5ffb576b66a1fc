"""Recordings of an invented service for the tests of comparisons, without files."""

from __future__ import annotations

import numpy as np

from aqltelemetry.observation import DURATION
from aqltelemetry.views.comparison.durations import Durations, by_label
from recordings import Recording, Route

SECONDS = 120
ROUTES = (
    Route("/a [GET]", 20, 0.02, 0.5, tail=0.005, outcomes={"5xx": 0.01}),
    Route("/b [GET]", 5, 0.1, 0.3, outcomes={"4xx": 0.03}),
    Route("/c [GET]", 0.8, 0.005, 0.7),
    Route("job", 0.1, 0.5),
)


def recording(seed: int, *, load: float = 1, slower: float = 1) -> Recording:
    """Return a recording of two workers, whose event loop waits for 15 ms every 10 s.

    Args:
        seed: What the random numbers begin with.
        load: By how much there are more requests.
        slower: By what all durations are multiplied.
    """
    made = Recording(SECONDS, seed)
    for _ in range(2):
        worker = made.add_worker()
        for route in ROUTES:
            requests = worker.serve(route, lambda at_s, route=route: 0 * at_s + route.per_s * load)  # type: ignore[misc]
            requests.seconds = requests.seconds * slower
        for at_s in np.arange(worker.begin_s + seed % 7, SECONDS, 10):
            worker.hold(float(at_s), 0.015)
    return made


def recorded(seed: int, *, load: float = 1, slower: float = 1) -> Durations:
    """Return the durations of such a recording."""
    times, seconds, codes = [], [], []
    labels: dict[str, int] = {}
    for worker in recording(seed, load=load, slower=slower).workers:
        for (prefix, label), (at_s, values) in worker.columns().items():
            if prefix == DURATION:
                codes.append(np.full(len(at_s), labels.setdefault(label, len(labels))))
                times.append((at_s * 1e9).astype(np.int64))
                seconds.append(values)
    times_ns = np.concatenate(times)
    found = by_label(times_ns, np.concatenate(seconds), np.concatenate(codes), list(labels))
    return Durations(f"seed {seed}", SECONDS, int(times_ns.min()), int(times_ns.max()), found)
