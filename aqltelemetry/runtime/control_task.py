"""Carries out requests to a running recording: switch off or on, profile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from aqltelemetry.observation import RUNTIME
from aqltelemetry.recording import recorder
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.runtime.control_files import ControlFiles, ControlRequests, ProfileResult
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import WorkerThread

if TYPE_CHECKING:
    from aqltelemetry.runtime.profiler import Profiler

_R = TypeVar("_R")
NewProfiler: TypeAlias = "Callable[[str, float], Profiler]"
"""Makes a profiler for a form, PSTATS or SPEEDSCOPE, and a longest time in seconds."""
POLL_S = 0.25
_LAST_S = 1.0
SWITCHED_ON = (RUNTIME, "telemetry switched on")
"""The series of the switch: 0 when a recording was switched off, 1 when on again."""


class ControlTask:
    """Carries out what the control files of a recording request, as one task.

    A thread polls the files, so that the event loop is woken by a request alone.
    """

    def __init__(
        self,
        controls: ControlFiles,
        writer: str,
        recording: Recording,
        new_profiler: NewProfiler,
    ) -> None:
        """Read whether recordings are switched off, and start the thread that polls."""
        self.is_off = False
        self._controls = controls
        self._writer = writer
        self._recording = recording
        self._complained = False
        try:
            self.is_off = controls.is_off()
        except OSError as exc:
            self._complain(exc)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = asyncio.Event()
        self._new_profiler = new_profiler
        self._profiler: Profiler | None = None
        self._profile_until_s = 0.0
        self._profile_token = ""
        # A thread of its own: the disk of the directory, or writing a profile, must not delay the
        # journal. It is started last, since it polls at once.
        self._thread = WorkerThread("aqltelemetry-control", self._poll, POLL_S)

    def end(self) -> None:
        """End the thread after its jobs, without waiting for it."""
        self._thread.shutdown(wait=False)

    async def run(self) -> None:
        """Carry out requests until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                await self.look()
                # A profile ends by itself.
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S if self._profiler else None):
                        await self._asked.wait()
                self._asked.clear()
        finally:
            self._loop = None
            # The end of the recording waits for a profile no longer than this.
            async with asyncio.timeout(_LAST_S):
                await self._end_profile()

    def _poll(self) -> None:
        """Wake the task if there is a request; called on the thread."""
        loop = self._loop
        if loop is None:
            return
        try:
            requests = self._controls.requests(self._writer)
            is_done = requests.off == self.is_off and (
                (requests.profile_s is None) == (self._profiler is None)
            )
        except Exception:  # noqa: BLE001 - the task logs it, once
            is_done = self._complained
        if not is_done:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._asked.set)

    async def look(self) -> None:
        """Carry out the current requests."""
        try:
            requests = await self._run(lambda: self._controls.requests(self._writer))
            await self._profile(requests)
        except Exception as exc:  # noqa: BLE001 - a later request must be carried out
            self._complain(exc)
            return
        if requests.off != self.is_off:
            self.switch(off=requests.off)

    def switch(self, *, off: bool) -> None:
        """Switch recording off or on; either is recorded as an observation."""
        self.is_off = off
        if off:
            self._recording.append(SWITCHED_ON, 0)
            recorder.remove(self._recording)
        else:
            recorder.install(self._recording)
            self._recording.append(SWITCHED_ON, 1)
        log.info("recording is switched %s", "off" if off else "on")

    def _complain(self, exc: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("can't carry out requests to the recording: %r", exc)

    async def _profile(self, requests: ControlRequests) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._profiler is None and requests.profile_s is not None:
            self._profile_token = requests.token
            try:
                profiler = self._new_profiler(requests.profile_form, requests.profile_s)
                profiler.start()
            except Exception as exc:  # noqa: BLE001 - recording goes on, whatever a profiler raises
                await self._answer(ProfileResult(error=str(exc) or repr(exc)))
                return
            self._profiler = profiler
            self._profile_until_s = now_s + requests.profile_s
        elif (
            requests.profile_s is None
            or requests.token != self._profile_token
            or now_s >= self._profile_until_s
        ):
            await self._end_profile()

    async def _end_profile(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        profiler.disable()
        try:
            await self._run(profiler.write)
        except Exception as exc:  # noqa: BLE001 - as above
            await self._answer(ProfileResult(error=f"the profile can't be written: {exc}"))
        else:
            await self._answer(ProfileResult(path=profiler.path))

    async def _answer(self, answer: ProfileResult) -> None:
        token = self._profile_token
        await self._run(lambda: self._controls.store_profile_result(self._writer, answer, token))

    async def _run(self, job: Callable[[], _R]) -> _R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)
