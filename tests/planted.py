"""Recordings of invented services: `steady(seed)`, and `planted(kind, seed)` with one fault.

A steady recording has the irregularities of a healthy service: heavy tails, routes of different
rates, bursts, a slow start of each worker, collections, noisy processors, workers that start late,
a slow trend, and sometimes few observations. A planted one is a steady one of at least a minute
and a few thousand requests, plus the fault that `Recording.fault` describes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from aqltelemetry.observation import RUNTIME
from recordings import MIB, TICK_S, Fault, Floats, Recording, Worker
from recordings import Route as PlainRoute

_ROUTES = (
    *("/orders/{id} [GET]", "/orders [POST]", "/users/{id} [GET]", "/search [GET]"),
    *("/health [GET]", "/reports/{id} [GET]", "nightly import"),
)


@dataclass(frozen=True)
class Route(PlainRoute):
    """A route, of whose requests a share `misses` the cache and lasts four times as long."""

    misses: float = 0.0


class _Shape(NamedTuple):
    """How much a service does: seconds, workers, routes and requests in all."""

    seconds: float
    workers: int
    routes: int
    requests: int


class _Service:
    """An invented service, whose irregularities are drawn at random."""

    def __init__(self, shape: _Shape, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = shape
        self.recording = Recording(shape.seconds, int(rng.integers(2**32)))
        self._trend = self._wave(rng.uniform(0, 0.3))
        self._slowness = self._wave(rng.uniform(0, 0.08))
        spread = rng.uniform(0.02, 0.4)
        whole = int(shape.seconds) + 2
        self._bursts = rng.gamma(1 / spread**2, spread**2, whole)
        self._moods = _moods(whole, rng.uniform(0, 0.12), rng)
        self.routes = self._routes()
        for number in range(shape.workers):
            self._start(number)

    @property
    def busiest(self) -> Route:
        """The route with the most requests."""
        return max(self.routes, key=lambda route: route.per_s)

    def _wave(self, size: float) -> Callable[[Floats], Floats]:
        """Return a slow trend: a part of a wave that is several times as long."""
        period = self.shape.seconds * self.rng.uniform(2, 6)
        shift = self.rng.uniform(0, 2 * np.pi)

        def wave(at_s: Floats) -> Floats:
            return np.asarray(1 + size * np.sin(2 * np.pi * at_s / period + shift))

        return wave

    def _routes(self) -> list[Route]:
        rng, shape = self.rng, self.shape
        shares = rng.dirichlet(np.full(shape.routes, 1.5))
        per_s = shares * shape.requests / shape.seconds / shape.workers
        return [
            Route(
                label,
                per_s=float(rate),
                median_s=float(np.exp(rng.uniform(np.log(0.001), np.log(0.2)))),
                sigma=float(rng.uniform(0.15, 0.7)),
                tail=float(rng.choice([0, 0.002, 0.005])),
                outcomes={"4xx": float(rng.uniform(0, 0.04)), "5xx": float(rng.uniform(0, 0.004))},
                misses=float(rng.choice([0, 0, rng.uniform(0.02, 0.3)])),
                block="database" if number == 1 else "",
            )
            for number, (label, rate) in enumerate(zip(_ROUTES, per_s, strict=False))
        ]

    def _start(self, number: int) -> None:
        rng, seconds = self.rng, self.shape.seconds
        is_late = number > 0 and rng.random() < 0.3
        begin_s = rng.uniform(0, seconds / 2) if is_late else rng.uniform(0, 0.5)
        if number == 1 and rng.random() < 0.3:  # it is replaced
            end_s = begin_s + (seconds - begin_s) * rng.uniform(0.3, 0.7)
            self.recording.add_worker(float(begin_s), float(end_s))
            begin_s = end_s + rng.uniform(0, 0.5)
        self.recording.add_worker(float(begin_s))

    def serve(self) -> Recording:
        """Add the requests and samples of all workers."""
        extra, length = self.rng.uniform(0, 4), self.rng.uniform(0.2, 2)
        for worker in self.recording.workers:
            part = self.rng.uniform(0.6, 1.4)  # the kernel does not balance connections
            for route in self.routes:
                self._serve(worker, replace(route, per_s=route.per_s * part), extra, length)
            add_samples(worker, self.rng)
        return self.recording

    def _serve(self, worker: Worker, route: Route, extra: float, length: float) -> None:
        def per_s(at_s: Floats) -> Floats:
            return np.asarray(route.per_s * self._trend(at_s) * self._bursts[at_s.astype(int)])

        requests = worker.serve(route, per_s)
        age_s = requests.begin_s - worker.begin_s
        requests.seconds *= self._slowness(requests.begin_s) * (1 + extra * np.exp(-age_s / length))
        requests.seconds *= self._moods[requests.begin_s.astype(int)]
        missed = self.rng.random(len(requests.seconds)) < route.misses
        requests.seconds[missed] *= 4


def _moods(seconds: int, size: float, rng: np.random.Generator) -> Floats:
    """Return how slow other services are in each second: alike in some ten seconds."""
    level, levels = 0.0, []
    for noise in rng.normal(0, size, seconds):
        level = 0.9 * level + 0.45 * noise
        levels.append(level)
    return np.exp(levels)


def add_samples(worker: Worker, rng: np.random.Generator) -> None:
    """Add the runtime series of a healthy worker that has served its requests."""
    due_s = np.arange(worker.begin_s + TICK_S, worker.end_s, TICK_S)
    late_s = rng.exponential(0.0006, len(due_s)) * rng.choice([1, 8], len(due_s), p=[0.99, 0.01])
    worker.samples["event loop lag"] = due_s + late_s, late_s
    _add_memory(worker, rng)
    _add_processor(worker, rng)
    worker.sample("open fds", lambda at_s: 12 + rng.poisson(6, len(at_s)))
    worker.sample("threads", lambda at_s: np.full(len(at_s), 5.0))
    worker.sample("tasks", lambda at_s: 3 + rng.poisson(4, len(at_s)))
    _collect(worker, rng)
    worker.sample("requests in flight", worker.in_flight)


def _add_memory(worker: Worker, rng: np.random.Generator) -> None:
    size, growth = rng.uniform(40, 200) * MIB, rng.uniform(0.05, 0.6)
    settle_s = rng.uniform(0.02, 0.12) * (worker.end_s - worker.begin_s)
    saw, period_s, noise = rng.uniform(0, 0.06), rng.uniform(7, 60), rng.uniform(0.0005, 0.005)

    def rss(at_s: Floats) -> Floats:
        age_s = at_s - worker.begin_s
        level = 1 + growth * (1 - np.exp(-age_s / settle_s)) + saw * (age_s / period_s % 1)
        return np.round(size * (level + noise * rng.standard_normal(len(at_s))) / 4096) * 4096

    worker.sample("rss", rss)
    worker.sample("max rss", lambda at_s: np.maximum.accumulate(rss(at_s)) / 1024)


def _add_processor(worker: Worker, rng: np.random.Generator) -> None:
    mean, noise = rng.uniform(3, 70), rng.uniform(2, 15)

    def percent(at_s: Floats) -> Floats:
        start = 60 * np.exp(-(at_s - worker.begin_s) / 1.5)
        spikes = rng.choice([0, 60], len(at_s), p=[0.98, 0.02])
        drawn = mean + start + spikes + noise * rng.standard_normal(len(at_s))
        return np.asarray(np.clip(drawn, 0, 100))

    worker.sample("cpu percent", percent)
    spent = np.cumsum(worker.samples["cpu percent"][1]) / 100
    worker.sample("user time", lambda _: 0.4 + spent * 0.85)
    worker.sample("system time", lambda _: 0.1 + spent * 0.15)


def _collect(worker: Worker, rng: np.random.Generator) -> None:
    """Collect small generations often, and the last one, which takes longer, now and then."""
    for label, period_s, pause_s in (
        ("gc pause gen0", rng.uniform(0.5, 3), 0.0002),
        ("gc pause gen1", rng.uniform(5, 30), 0.001),
        ("gc pause gen2", rng.uniform(15, 60), rng.uniform(0.002, 0.03)),
    ):
        at_s = np.arange(worker.begin_s + rng.uniform(0, period_s), worker.end_s, period_s)
        pauses = pause_s * rng.uniform(0.7, 1.3, len(at_s))
        for begin_s, length_s in zip(at_s, pauses, strict=True):
            if length_s > 0.0015:
                worker.hold(float(begin_s), float(length_s))
        worker.observe(RUNTIME, label, at_s + pauses, pauses)
        worker.observe(RUNTIME, "gc pause", at_s + pauses, pauses)
    worker.sample("gc collections", lambda at_s: 80 + np.floor((at_s - worker.begin_s) / 0.7))


def steady(seed: int) -> Recording:
    """Return the recording of a healthy service."""
    rng = np.random.default_rng((1, seed))
    shape = _Shape(
        seconds=float(rng.choice([20, 45, 90, 180, 300, 600])),
        workers=int(rng.choice([1, 1, 2, 3, 4, 8])),
        routes=int(rng.integers(1, 6)),
        requests=int(rng.choice([40, 400, 3_000, 12_000, 30_000])),
    )
    return _Service(shape, rng).serve()


def planted(kind: str, seed: int) -> Recording:
    """Return the recording of a service with a fault of a kind; see `KINDS`."""
    rng = np.random.default_rng((2, seed, *kind.encode()))
    shape = _Shape(
        seconds=float(rng.choice([90, 180, 300])),
        workers=int(rng.choice([2, 3, 4])),
        routes=int(rng.integers(1, 5)),
        requests=int(rng.choice([6_000, 12_000, 20_000])),
    )
    service = _Service(shape, rng)
    recording = service.serve()
    recording.fault = KINDS[kind](service)
    return recording


def _slow_worker(service: _Service) -> Fault:
    worker, _ = _one(service)
    factor = service.rng.uniform(2, 4)
    for requests in worker.requests:
        requests.scale(float(factor), 0, worker.end_s)
    return Fault("slow worker", worker.begin_s, worker.end_s, None, worker.pid)


def _held_worker(service: _Service) -> Fault:
    worker, route = _one(service)
    length_s = _long(worker, route)
    _hold_often(service, worker, length_s, 0.06, "render export")
    return Fault("slow worker", worker.begin_s, worker.end_s, None, worker.pid)


def _long_tail(service: _Service) -> Fault:
    _, route = _one(service)
    for worker in service.recording.workers:
        for requests in worker.requests:
            if requests.route.label == route.label:
                is_slow = service.rng.random(len(requests.seconds)) < 0.03
                requests.seconds[is_slow] *= service.rng.uniform(50, 100)
    return Fault("long tail", 0, service.shape.seconds, route.label)


def _blocked_loop(service: _Service) -> Fault:
    worker, route = _one(service)
    length_s = _long(worker, route)
    _hold_often(service, worker, length_s, 0.04, "render export")
    return Fault("slowest requests", 0, worker.end_s, None, worker.pid, "render export")


def _blocked_line(service: _Service) -> Fault:
    worker, route = _one(service)
    length_s = _long(worker, route)
    seconds = worker.end_s - worker.begin_s
    for at_s in worker.begin_s + (np.arange(12) + service.rng.uniform(0.2, 0.4)) * seconds / 12:
        worker.block(float(at_s), length_s, "native code holding the GIL", 12)
    return Fault("event loop blocked", 0, worker.end_s, None, worker.pid, "orders/app.py:12")


def _collector(service: _Service) -> Fault:
    worker, route = _one(service)
    length_s = _long(worker, route)
    _hold_often(service, worker, length_s, 0.04, sample="gc pause")
    return Fault("slowest requests", 0, worker.end_s, None, worker.pid, "garbage collector")


def _full_processor(service: _Service) -> Fault:
    worker, _ = _one(service)
    times, percent = worker.samples["cpu percent"]
    full = (times.astype(int) % 12) < 2
    percent[full] = service.rng.uniform(97, 100, full.sum())
    for requests in worker.requests:
        at = np.searchsorted(times, requests.begin_s)
        within = full[np.minimum(at, len(full) - 1)]
        requests.seconds[within] *= service.rng.uniform(4, 8)
    return Fault("slowest requests", 0, worker.end_s, None, worker.pid, "whole processor")


def _slow_block(service: _Service) -> Fault:
    """A block inside of the requests of one route is slow now and then."""
    _, route = _one(service)
    for worker in service.recording.workers:
        for requests in worker.requests:
            if requests.route.label == route.label:
                requests.route = Route(route.label, median_s=route.median_s, block="payment api")
                is_slow = service.rng.random(len(requests.seconds)) < 0.02
                requests.seconds[is_slow] *= service.rng.uniform(30, 60)
    return Fault("slow block", 0, service.shape.seconds, route.label, None, "payment api")


def _leak(service: _Service) -> Fault:
    worker, _ = _one(service)
    times, rss = worker.samples["rss"]
    share = (times - worker.begin_s) / (worker.end_s - worker.begin_s)
    worker.samples["rss"] = times, rss + service.rng.uniform(0.5, 3) * rss[0] * share
    return Fault("memory grows", worker.begin_s, worker.end_s, None, worker.pid)


def _error_burst(service: _Service) -> Fault:
    _, route = _one(service)
    begin_s, end_s = _part(service, 0.05, 0.15)
    outcome = str(service.rng.choice(["4xx", "5xx", "failed", "disconnect"]))
    share = service.rng.uniform(0.3, 0.8)
    for worker in service.recording.workers:
        for requests in worker.requests:
            if requests.route.label == route.label:
                within = (requests.end_s >= begin_s) & (requests.end_s < end_s)
                within &= service.rng.random(len(within)) < share
                at_s, seconds = requests.end_s[within], requests.seconds[within]
                worker.observe("duration", f"{route.label} {outcome}", at_s, seconds)
    return Fault("error burst", begin_s, end_s, route.label, None, outcome)


def _errors(service: _Service) -> Fault:
    _, route = _one(service)
    share = service.rng.uniform(0.1, 0.5)
    for worker in service.recording.workers:
        for requests in worker.requests:
            if requests.route.label == route.label:
                failed = service.rng.random(len(requests.seconds)) < share
                at_s, seconds = requests.end_s[failed], requests.seconds[failed]
                worker.observe("duration", f"{route.label} 5xx", at_s, seconds)
    return Fault("errors", 0, service.shape.seconds, route.label)


def _rate_drop(service: _Service) -> Fault:
    begin_s, end_s = _part(service, 0.2, 0.4)
    kept = service.rng.uniform(0, 0.2)
    for worker in service.recording.workers:
        for requests in worker.requests:
            within = (requests.begin_s >= begin_s) & (requests.begin_s < end_s)
            requests.keep(~within | (service.rng.random(len(within)) < kept))
    return Fault("rate drop", begin_s, end_s)


def _change(service: _Service) -> Fault:
    _, route = _one(service)
    begin_s, _ = _part(service, 0.2, 0.4)
    _scale(service, route, float(service.rng.uniform(1.7, 4)), begin_s, np.inf)
    return Fault("became slower", begin_s, service.shape.seconds, route.label)


def _slow_time(service: _Service) -> Fault:
    _, route = _one(service)
    begin_s, end_s = _part(service, 0.2, 0.4)
    _scale(service, route, float(service.rng.uniform(1.7, 4)), begin_s, end_s)
    return Fault("became slower", begin_s, end_s, route.label)


def _clock_step(service: _Service) -> Fault:
    at_s, _ = _part(service, 0.1, 0.2)
    step_s = service.rng.choice([-1, 1]) * service.rng.uniform(0.2, 3600)
    for worker in service.recording.workers:
        worker.observe(RUNTIME, "telemetry clock step", [at_s], [step_s])
    return Fault("clock step", at_s, at_s)


def _drops(service: _Service) -> Fault:
    worker, _ = _one(service)
    at_s, _ = _part(service, 0.1, 0.2)
    reason = str(service.rng.choice(["no segment", "torn", "invalid"]))
    count = int(service.rng.integers(1, 10_000))
    worker.drops[reason] = (count, at_s)
    times = np.arange(at_s, worker.end_s)
    worker.observe(RUNTIME, f"telemetry dropped {reason}", times, np.full(len(times), count))
    return Fault("drops", at_s, worker.end_s, None, worker.pid, reason)


def _killed(service: _Service) -> Fault:
    worker, _ = _one(service)
    at_s, _ = _part(service, 0.1, 0.2)
    worker.die(at_s)
    return Fault("killed", at_s, at_s, None, worker.pid)


def _stuck(service: _Service) -> Fault:
    worker, _ = _one(service)
    times, count = worker.samples["requests in flight"]
    per_s = service.rng.uniform(0.3, 5)
    worker.samples["requests in flight"] = times, count + np.floor((times - times[0]) * per_s)
    return Fault("requests pile up", worker.begin_s, worker.end_s, None, worker.pid)


def _switched_off(service: _Service) -> Fault:
    begin_s, end_s = _part(service, 0.1, 0.3)
    for worker in service.recording.workers:
        for requests in worker.requests:
            requests.keep((requests.end_s < begin_s) | (requests.end_s > end_s))
        for label, (times, values) in worker.samples.items():
            within = (times >= begin_s) & (times < end_s)
            worker.samples[label] = times[~within], values[~within]
        worker.observe(RUNTIME, "telemetry switched on", [begin_s, end_s], [0, 1])
    return Fault("switched off", begin_s, end_s)


def _one(service: _Service) -> tuple[Worker, Route]:
    """Return the worker that was there from the start, and the busiest route."""
    return service.recording.workers[0], service.busiest


def _long(worker: Worker, route: Route) -> float:
    """Return a time that is long for the requests of a route."""
    (seconds,) = (each.seconds for each in worker.requests if each.route.label == route.label)
    return max(0.2, 2 * float(np.quantile(seconds, 0.99)))


def _part(service: _Service, least: float, most: float) -> tuple[float, float]:
    """Return a time that is a share of the recording between two limits, not at its ends."""
    seconds, rng = service.shape.seconds, service.rng
    length_s = seconds * rng.uniform(least, most)
    begin_s = seconds * rng.uniform(0.25, 0.45)
    return float(begin_s), float(begin_s + length_s)


def _scale(service: _Service, route: Route, factor: float, begin_s: float, end_s: float) -> None:
    for worker in service.recording.workers:
        for requests in worker.requests:
            if requests.route.label == route.label:
                requests.scale(factor, begin_s, end_s)


def _hold_often(
    service: _Service,
    worker: Worker,
    length_s: float,
    share: float,
    label: str = "",
    sample: str = "",
) -> None:
    """Hold the event loop of a worker for a share of its time."""
    seconds = worker.end_s - worker.begin_s
    count = max(6, round(seconds * share / length_s))
    slots = worker.begin_s + (np.arange(count) + 0.2) * seconds / count
    for at_s in slots + service.rng.uniform(0, 0.5, count) * seconds / count:
        worker.hold(float(at_s), length_s * float(service.rng.uniform(0.8, 1.2)), label, sample)


KINDS: dict[str, Callable[[_Service], Fault]] = {
    "slow worker": _slow_worker,
    "held worker": _held_worker,
    "long tail": _long_tail,
    "blocked loop": _blocked_loop,
    "blocked line": _blocked_line,
    "collector": _collector,
    "full processor": _full_processor,
    "slow block": _slow_block,
    "leak": _leak,
    "error burst": _error_burst,
    "errors": _errors,
    "rate drop": _rate_drop,
    "change": _change,
    "slow time": _slow_time,
    "clock step": _clock_step,
    "drops": _drops,
    "killed": _killed,
    "stuck": _stuck,
    "switched off": _switched_off,
}
"""The kinds of faults that `planted` adds to a steady recording."""
