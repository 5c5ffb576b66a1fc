"""Samples the stacks of all threads, for a flame graph in the format of speedscope.

https://www.speedscope.app/file-format-schema.json defines the format. Here it contains one
profile for each thread. A sample is a stack of frames, outermost first, and its weight is the
time in seconds for which the stack did not change.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

from aqltelemetry.system.clock import NS_PER_S, monotonic_ns
from aqltelemetry.system.threads import WorkerThread, is_own

_Stack: TypeAlias = tuple[int, ...]
_INTERVAL_S = 0.005
_MAX_SAMPLES = 60_000
"""Samples of a thread in one profile; a longer one is sampled less often."""
_MAX_DEPTH = 500


class StackProfiler:
    """Samples from `start` to `end`; a sample costs the application about ten microseconds."""

    def __init__(self, seconds: float, clock_ns: Callable[[], int] = monotonic_ns) -> None:
        self._interval_s = max(_INTERVAL_S, seconds / _MAX_SAMPLES)
        self._clock_ns = clock_ns
        self._codes: dict[int, tuple[int, CodeType]] = {}
        self._samples: dict[int, list[tuple[_Stack, int]]] = {}
        self._names: dict[int, str] = {}
        self._thread: WorkerThread | None = None
        self._begun_ns = self._last_ns = 0

    def start(self) -> None:
        """Start to sample, on a thread."""
        self._begun_ns = self._last_ns = self._clock_ns()
        self._thread = WorkerThread("aqltelemetry-stacks", self.sample, self._interval_s)

    def end(self) -> None:
        """Stop sampling."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()

    def sample(self) -> None:
        """Take one sample of all threads except those of the telemetry."""
        now_ns = self._clock_ns()
        passed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented
            if is_own(ident):
                continue
            stack = self._stack(frame)
            runs = self._samples.setdefault(ident, [])
            if runs and runs[-1][0] == stack:
                runs[-1] = (stack, runs[-1][1] + passed_ns)
            elif len(runs) < _MAX_SAMPLES:
                runs.append((stack, passed_ns))
        self._names.update(
            (thread.ident, thread.name)
            for thread in threading.enumerate()
            if thread.ident in self._samples and thread.ident is not None
        )

    def dump(self, path: Path) -> None:
        """Write the profile; raises OSError."""
        path.write_text(json.dumps(self.result()), encoding="utf-8")

    def result(self) -> dict[str, Any]:
        """Return the profile as an object of the format."""
        codes = [code for _, code in self._codes.values()]
        return {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": f"aqltelemetry {version('aqltelemetry')}",
            "activeProfileIndex": 0,
            "shared": {
                "frames": [
                    {"name": c.co_qualname, "file": c.co_filename, "line": c.co_firstlineno}
                    for c in codes
                ]
            },
            "profiles": [self._profile(ident) for ident in self._samples],
        }

    def _profile(self, ident: int) -> dict[str, Any]:
        runs = self._samples[ident]
        return {
            "type": "sampled",
            "name": self._names.get(ident, f"thread {ident}"),
            "unit": "seconds",
            "startValue": 0,
            "endValue": sum(passed_ns for _, passed_ns in runs) / NS_PER_S,
            "samples": [stack for stack, _ in runs],
            "weights": [passed_ns / NS_PER_S for _, passed_ns in runs],
        }

    def _stack(self, frame: FrameType | None) -> _Stack:
        found: list[int] = []
        while frame is not None and len(found) < _MAX_DEPTH:
            code = frame.f_code
            # The code object is kept, so that no other object gets its id.
            number, _ = self._codes.setdefault(id(code), (len(self._codes), code))
            found.append(number)
            frame = frame.f_back
        return tuple(reversed(found))
