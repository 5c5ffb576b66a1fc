"""What Prometheus's metrics cost: each observation in a worker, and each scrape.

`aqltelemetry serve --metrics` is compared with the multiprocess mode of prometheus_client, which
keeps its values in mapped files, a set for each process. Eight workers observe requests of 20
routes with each of them, in turns. A histogram has the 14 default buckets of `serve --metrics` in
both. Observations cost processor time of the worker; a scrape costs processor time of the process
that answers it, which includes making the text. All are medians of several rounds.

After restarts, the multiprocess mode reads the files of the ended processes too. A scrape of
aqltelemetry reads the rows that were recorded since the last one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from _machine import describe
from _table import show

WORKERS = 8
ROUTES = 20
ROUNDS = 3
STEPS = (125, 1_250, 12_500, 50_000)
"""The observations of each worker before a scrape."""
RESTARTS = (0, 5, 25)
"""How often each worker was restarted before a scrape."""
OURS, THEIRS = "aqltelemetry", "prometheus_client"
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_SETTLE_S = 8.0


def child(name: str, directory: str) -> None:
    """Observe as many requests as each line of the standard input says; print ns for each."""
    observe = _recorder(directory) if name == OURS else _histogram()
    print("ready", flush=True)
    for line in sys.stdin:
        command, number = line.split()
        if command == "restart":
            for _ in range(int(number)):
                _in_a_fork(lambda: observe(ROUTES))
            print("restarted", flush=True)
            continue
        began_ns = time.thread_time_ns()
        observe(int(number))
        print((time.thread_time_ns() - began_ns) / int(number), flush=True)
    if name == OURS:
        from aqltelemetry import sync  # noqa: PLC0415 - as above

        sync.stop()


def _recorder(directory: str) -> Callable[[int], None]:
    from aqltelemetry import sync  # noqa: PLC0415 - each child loads what it measures

    sync.start(directory)
    labels = [f"/route/{number} [GET]" for number in range(ROUTES)]

    def observe(number: int) -> None:
        for at in range(number):
            with sync.time_block(labels[at % ROUTES]):
                pass

    return observe


def _histogram() -> Callable[[int], None]:
    from prometheus_client import CollectorRegistry, Histogram  # noqa: PLC0415 - as above

    from aqltelemetry.shipping.metrics.buckets import DEFAULT_BOUNDS  # noqa: PLC0415 - as above

    metric = Histogram(
        "request_duration_seconds",
        "Duration.",
        ["route", "method"],
        buckets=DEFAULT_BOUNDS,
        registry=CollectorRegistry(),
    )
    labels = [f"/route/{number}" for number in range(ROUTES)]

    def observe(number: int) -> None:
        for at in range(number):
            with metric.labels(labels[at % ROUTES], "GET").time():
                pass

    return observe


def _in_a_fork(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)


@contextmanager
def workers(name: str, directory: str) -> Iterator[Callable[[str, int], Sequence[str]]]:
    """Run workers; yield a function that gives each of them a command, and returns the answers."""
    command = (sys.executable, __file__, "--child", name, directory)
    environment = {**os.environ, **({_MULTIPROCESS: directory} if name == THEIRS else {})}
    running = [
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]

    def answers() -> Sequence[str]:
        return [process.stdout.readline() for process in running if process.stdout]

    def ask(verb: str, number: int) -> Sequence[str]:
        for process in running:
            print(verb, number, file=process.stdin, flush=True)
        return answers()

    answers()
    try:
        yield ask
    finally:
        for process in running:
            process.communicate()


def scraper(name: str, directory: str) -> Callable[[], int]:
    """Return a function that scrapes, and returns the size of the text."""
    if name == OURS:
        from aqltelemetry.views.metrics.scrape import Scrapes  # noqa: PLC0415 - needs directory

        scrapes = Scrapes([directory])
        return lambda: len(scrapes.scrape("").result().body)
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - as above
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - as above

    def scrape() -> int:
        registry = CollectorRegistry()
        make: Callable[..., object] = MultiProcessCollector
        make(registry, directory)
        return len(generate_latest(registry))

    return scrape


def cpu_ms(scrape: Callable[[], int]) -> float:
    """Return the processor time of a scrape in milliseconds."""
    began_ns = time.process_time_ns()
    scrape()
    return (time.process_time_ns() - began_ns) / 1e6


def main() -> None:
    """Show three tables."""
    describe("prometheus-client")
    observed: dict[str, list[float]] = {OURS: [], THEIRS: []}
    by_step: dict[str, dict[int, list[float]]] = {OURS: {}, THEIRS: {}}
    by_restart: dict[str, dict[int, float]] = {OURS: {}, THEIRS: {}}
    with tempfile.TemporaryDirectory() as home:
        places = {name: str(Path(home, name)) for name in observed}
        for place in places.values():
            Path(place).mkdir()
        with workers(OURS, places[OURS]) as ours, workers(THEIRS, places[THEIRS]) as theirs:
            asks = {OURS: ours, THEIRS: theirs}
            scrapes = {name: scraper(name, place) for name, place in places.items()}
            for _ in range(ROUNDS):
                for step in STEPS:
                    for name, ask in asks.items():
                        costs = [float(each) for each in ask("observe", step)]
                        if step == STEPS[-1]:
                            observed[name] += costs
                        by_step[name].setdefault(step, []).append(cpu_ms(scrapes[name]))
            before = 0
            for restarts in RESTARTS:
                for ask in asks.values():
                    ask("restart", restarts - before)
                # What ended processes left is published by the others.
                time.sleep(_SETTLE_S if restarts else 0)
                for name, ask in asks.items():
                    scrapes[name]()
                    times = []
                    for _ in range(ROUNDS):
                        ask("observe", STEPS[1])
                        times.append(cpu_ms(scrapes[name]))
                    by_restart[name][restarts] = statistics.median(times)
                before = restarts
    _show(observed, by_step, by_restart)


def _show(
    observed: dict[str, list[float]],
    by_step: dict[str, dict[int, list[float]]],
    by_restart: dict[str, dict[int, float]],
) -> None:
    show(
        "Processor time of an observation in a worker",
        {"": "", "ns": ",.0f"},
        [(f"`{name}`", statistics.median(costs)) for name, costs in observed.items()],
        drawn="ns",
    )
    show(
        f"Processor time of a scrape, in ms: {WORKERS} workers, {ROUTES} routes",
        {"observations since the last one": "", OURS: ",.1f", THEIRS: ",.1f"},
        [
            (
                f"{step * WORKERS:,}",
                *(statistics.median(by_step[name][step]) for name in (OURS, THEIRS)),
            )
            for step in STEPS
        ],
    )
    show(
        f"The same after restarts, {STEPS[1] * WORKERS:,} observations since the last one",
        {"restarts of each worker": "", OURS: ",.1f", THEIRS: ",.1f"},
        [
            (f"{restarts}", *(by_restart[name][restarts] for name in (OURS, THEIRS)))
            for restarts in RESTARTS
        ],
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(*sys.argv[2:])
    else:
        main()
