from __future__ import annotations

from collections.abc import Callable

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.live.finder import Finder, Findings


class _Case:
    """A finder whose clock is set by the test, and whose thread is run by it."""

    def __init__(self, takes_s: float = 0.1) -> None:
        self.now_ns = 0
        self.takes_s = takes_s
        self.spans_s: list[float] = []
        self.work: list[Callable[[], None]] = []
        self.finder = Finder(self.find, lambda: self.now_ns, lambda work, _: self.work.append(work))

    def find(self, begin_ns: int, end_ns: int) -> Findings:
        self.spans_s.append((end_ns - begin_ns) / NS_PER_S)
        self.now_ns += round(self.takes_s * NS_PER_S)
        return ({"text": f"finding {len(self.spans_s)}"},)

    def run(self) -> None:
        self.work.pop()()

    def texts(self) -> list[str]:
        return [each["text"] for each in self.finder.latest(1000 * NS_PER_S)]


def test_the_latest_findings_are_there_once_the_thread_has_found_them() -> None:
    case = _Case()
    assert case.texts() == []
    case.run()
    assert case.texts() == ["finding 1"]


def test_it_looks_again_after_99_times_as_long_as_it_took() -> None:
    case = _Case(takes_s=2.0)
    case.texts()
    case.run()
    case.now_ns += 197 * NS_PER_S
    case.texts()
    assert case.work == []
    case.now_ns += 2 * NS_PER_S
    case.texts()
    assert len(case.work) == 1


def test_it_looks_at_as_much_as_takes_less_than_a_second() -> None:
    case = _Case(takes_s=0.001)
    for takes_s in (0.001, 0.7, 2.0, 2.0, 50.0):
        case.takes_s = takes_s
        case.texts()
        case.run()
        case.now_ns += 10_000 * NS_PER_S
    assert case.spans_s == [10, 300, 300, 150, 75]


def test_a_failure_leaves_the_findings_as_they_are() -> None:
    case = _Case()
    case.texts()
    case.run()
    case.now_ns += 100 * NS_PER_S
    case.takes_s = float("nan")
    case.texts()
    case.run()
    assert case.texts() == ["finding 1"]
