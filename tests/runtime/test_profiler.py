from __future__ import annotations

import asyncio
import cProfile
import logging
import os
import pstats
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yappi

from aqltelemetry.errors import ProfilerError
from aqltelemetry.runtime.profiler import Profiler, leave_out
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.threads import WorkerThread


@pytest.fixture(autouse=True)
def _no_profile() -> Iterator[None]:
    yield
    yappi.stop()
    yappi.clear_stats()
    sys.setprofile(None)


@pytest.fixture
def without_yappi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yappi", None)


@pytest.fixture(params=["yappi", "cProfile"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "cProfile":
        request.getfixturevalue("without_yappi")
    return str(request.param)


def _work() -> int:
    return sum(range(100))


def _calls(path: Path) -> dict[str, tuple[int, float]]:
    """Return calls and cumulative seconds by function name."""
    stats: dict[Any, Any] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    return {name: (found[1], found[3]) for (*_, name), found in stats.items()}


@pytest.mark.usefixtures("engine")
def test_the_file_is_named_after_the_process_and_contains_the_calls(tmp_path: Path) -> None:
    profiler = Profiler(str(tmp_path))
    profiler.start()
    _work()
    profiler.stop()
    (path,) = tmp_path.iterdir()
    assert path.name == f"profiler.{os.getpid()}.data"
    assert str(path) == profiler.path
    assert path.stat().st_mode & 0o777 == 0o640
    assert _calls(path)["_work"][0] == 1


@pytest.mark.usefixtures("engine")
def test_another_profiler_is_named_in_the_error_and_not_stopped(tmp_path: Path) -> None:
    other = cProfile.Profile()
    other.enable()
    try:
        with pytest.raises(ProfilerError, match="only one can be"):
            Profiler(str(tmp_path)).start()
        _work()
    finally:
        other.disable()
    assert "_work" in {name for *_, name in pstats.Stats(other).stats}  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_profile_by_yappi_of_the_program_is_not_stopped(tmp_path: Path) -> None:
    yappi.start()
    with pytest.raises(ProfilerError, match=r"yappi.*only one can be"):
        Profiler(str(tmp_path)).start()
    assert yappi.is_running()


def test_the_programs_own_results_of_yappi_are_not_cleared(tmp_path: Path) -> None:
    yappi.start()
    _work()
    yappi.stop()
    with pytest.raises(ProfilerError, match="only one can be"):
        Profiler(str(tmp_path)).start()
    assert "_work" in {found.name for found in yappi.get_func_stats()}


@pytest.mark.usefixtures("engine")
def test_a_profile_that_cannot_be_written_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    profiler = Profiler(str(tmp_path / "missing"))
    profiler.start()
    with pytest.raises(OSError, match="No such file"):
        profiler.stop()
    assert sys.getprofile() is None
    assert not yappi.is_running()
    assert list(tmp_path.iterdir()) == []
    again = Profiler(str(tmp_path))
    again.start()
    again.stop()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("engine")
def test_no_profile_is_overwritten(tmp_path: Path) -> None:
    """Not even one of a process of another container, which has the same PID."""
    names = []
    for form in ("pstats", "pstats", "speedscope", "pstats", "speedscope"):
        profiler = Profiler(str(tmp_path), form)
        profiler.start()
        _work()
        profiler.stop()
        names.append(Path(profiler.path).name.removeprefix(f"profiler.{os.getpid()}."))
    assert names == ["data", "2.data", "speedscope.json", "3.data", "2.speedscope.json"]
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.usefixtures("engine")
def test_threads_of_the_telemetry_are_left_out(tmp_path: Path) -> None:
    done = threading.Event()
    thread = WorkerThread("aqltelemetry-test", done.set, 0.001)
    profiler = Profiler(str(tmp_path))
    begun_ns = monotonic_ns()
    profiler.start()
    done.clear()
    done.wait()
    _work()
    profiler.stop()
    passed_s = (monotonic_ns() - begun_ns) / 1e9
    thread.shutdown()
    stats: dict[Any, Any] = pstats.Stats(profiler.path).stats  # type: ignore[attr-defined]
    assert "_work" in {name for *_, name in stats}
    assert not [file for file, *_ in stats if file.endswith("aqltelemetry/threads.py")]
    assert sum(found[2] for found in stats.values()) <= passed_s


def test_calls_by_the_telemetry_are_left_out_of_statistics() -> None:
    own, shared, only, theirs = (
        ("own.py", 1, "_run"),
        ("~", 0, "get"),
        ("x", 2, "a"),
        ("y", 3, "b"),
    )
    stats = {
        own: (1, 1, 0.5, 9.0, {}),
        shared: (5, 5, 7.0, 7.0, {own: (3, 3, 6.0, 6.0), theirs: (2, 2, 1.0, 1.0)}),
        only: (1, 1, 1.0, 1.0, {own: (1, 1, 1.0, 1.0)}),
        theirs: (1, 1, 0.5, 1.5, {}),
    }
    leave_out(stats, "own.py")
    assert stats == {
        shared: (2, 2, 1.0, 1.0, {theirs: (2, 2, 1.0, 1.0)}),
        theirs: (1, 1, 0.5, 1.5, {}),
    }


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("install", [sys.setprofile, threading.setprofile])
def test_a_profile_function_is_named_in_the_error_and_not_replaced(
    tmp_path: Path, install: Callable[[Any], None]
) -> None:
    def hook(*_: object) -> None: ...

    install(hook)
    try:
        with pytest.raises(ProfilerError, match=r"hook.*only one can be"):
            Profiler(str(tmp_path)).start()
        assert hook in (sys.getprofile(), threading.getprofile())
    finally:
        install(None)


@pytest.mark.usefixtures("engine")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")
def test_a_tool_of_sys_monitoring_is_named_in_the_error_and_not_replaced(tmp_path: Path) -> None:
    if sys.version_info >= (3, 12):
        sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "their tool")
        try:
            with pytest.raises(ProfilerError, match=r"their tool.*only one can be"):
                Profiler(str(tmp_path)).start()
            assert sys.monitoring.get_tool(sys.monitoring.PROFILER_ID) == "their tool"
        finally:
            sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)


@pytest.mark.usefixtures("engine")
def test_a_second_profile_contains_nothing_of_the_first(tmp_path: Path) -> None:
    for work in (_work, lambda: None):
        profiler = Profiler(str(tmp_path))
        profiler.start()
        work()
        profiler.stop()
    assert "_work" not in _calls(Path(profiler.path))


def test_yappi_counts_a_coroutine_once_with_its_waiting_time(tmp_path: Path) -> None:
    async def waiting() -> None:
        for _ in range(5):
            await asyncio.sleep(0.01)

    async def main() -> None:
        await asyncio.gather(waiting(), waiting())

    profiler = Profiler(str(tmp_path))
    profiler.start()
    asyncio.run(main())
    profiler.stop()
    calls, cumulative_s = _calls(Path(profiler.path))["waiting"]
    assert calls == 2
    assert cumulative_s >= 0.1


def test_yappi_sees_threads_that_ran_before(tmp_path: Path) -> None:
    may_work = threading.Event()

    def wait_and_work() -> None:
        may_work.wait()
        _work()

    thread = threading.Thread(target=wait_and_work)
    thread.start()
    profiler = Profiler(str(tmp_path), other_threads=True)
    profiler.start()
    may_work.set()
    thread.join()
    profiler.stop()
    assert _calls(Path(profiler.path))["_work"][0] == 1


@pytest.mark.usefixtures("without_yappi")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="cProfile sees all threads there")
def test_other_threads_need_a_profiler_that_sees_them(tmp_path: Path) -> None:
    with pytest.raises(ProfilerError, match=r"install aqltelemetry\[profiler\]"):
        Profiler(str(tmp_path), other_threads=True)


@pytest.mark.usefixtures("without_yappi")
def test_the_limits_of_cprofile_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aqltelemetry"):
        Profiler(str(tmp_path))
    assert "shows little of coroutines" in caplog.text


def test_profiling_of_greenlets_is_by_greenlet(
    tmp_path: Path, run_program: Callable[[str], None]
) -> None:
    pytest.importorskip("gevent")
    run_program(f"""
from gevent import monkey; monkey.patch_all()
import gevent, pstats
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.runtime.profiler import Profiler, leave_out
from aqltelemetry.system.threads import WorkerThread
def waiting():
    for _ in range(5):
        gevent.sleep(0.01)
profiler = Profiler({str(tmp_path)!r})
profiler.start()
gevent.joinall([gevent.spawn(waiting), gevent.spawn(waiting)])
profiler.stop()
found = {{name: stats for (*_, name), stats in pstats.Stats(profiler.path).stats.items()}}
calls, total_s = found["waiting"][1], found["waiting"][3]
assert calls == 2 and total_s >= 0.1, found["waiting"]
""")
