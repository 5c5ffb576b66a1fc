"""What may be asked of running recordings: files in `<monitoring directory>/.control`.

`off` is there while recordings are switched off. `profile.<writer>.asked` holds for
how many seconds a process is to be profiled; removed, it asks no more. The process
answers in `profile.<writer>.answer`. A writer is what file names call so: unlike a
PID it is one process's alone, in all containers that share a volume. Who
asks may add a token, which the name of the answer then has too, so that two who ask do not meet.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import NamedTuple

PSTATS = "pstats"
"""A profile for `python -m pstats`."""
SPEEDSCOPE = "speedscope"
"""A profile for https://www.speedscope.app, as a flame graph."""
MAX_PROFILE_S = 3600.0
"""How long a process may be profiled at the most."""
_DIRECTORY = ".control"
_OFF = "off"
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640


class ControlRequests(NamedTuple):
    """What is asked of a recording; `profile_s` is None where no profile is wanted."""

    off: bool = False
    profile_s: float | None = None
    profile_form: str = PSTATS
    token: str = ""


class ProfileResult(NamedTuple):
    """What became of a profile: its file, or why there is none."""

    path: str = ""
    error: str = ""


class ControlFiles:
    """The control files of a monitoring directory; all methods raise OSError."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._root = os.path.join(directory, _DIRECTORY)

    def requests(self, writer: str) -> ControlRequests:
        """Return what is asked of a recording now."""
        # Nearly always there is no such directory, and one call says so.
        if not os.path.isdir(self._root):
            return ControlRequests()
        return ControlRequests(self.is_off(), *self._asked(writer))

    def is_off(self) -> bool:
        """Say whether recordings into the directory are switched off."""
        try:
            os.stat(os.path.join(self._root, _OFF))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def switch(self, *, on: bool) -> bool:
        """Switch all recordings into the directory on or off; say whether that changed it."""
        path = os.path.join(self._root, _OFF)
        try:
            if on:
                os.unlink(path)
            else:
                self._create(path, "")
        except (FileExistsError, FileNotFoundError):
            if on or os.path.isdir(self._directory):
                return False
            raise
        return True

    def request_profile(
        self, writer: str, seconds: float, form: str = PSTATS, token: str = ""
    ) -> None:
        """Have a process profiled; raises FileExistsError while it is.

        `form` is PSTATS or SPEEDSCOPE, `token` is for `profile_result` and `cancel_profile`.
        """
        question = f"{seconds} {form} {token}".strip()
        self._create(self._profile(writer, "asked"), question)
        self._remove(self._answer(writer, token))

    def cancel_profile(self, writer: str, token: str = "") -> None:
        """Ask for no profile any more, and forget what was answered."""
        if self._asked(writer)[2] == token:
            self._remove(self._profile(writer, "asked"))
        self._remove(self._answer(writer, token))

    def store_profile_result(self, writer: str, answer: ProfileResult, token: str = "") -> None:
        """Say what became of a profile that was asked for."""
        path = self._answer(writer, token)
        if not os.path.exists(self._profile(writer, "asked")) or self._asked(writer)[2] != token:
            return  # nobody waits for it any more
        self._create(path + ".new", json.dumps(answer._asdict()))
        os.replace(path + ".new", path)
        self._remove(self._profile(writer, "asked"))

    def profile_result(self, writer: str, token: str = "") -> ProfileResult | None:
        """Return what a process answered; None as long as it has not."""
        try:
            with open(self._answer(writer, token), encoding="utf-8") as file:
                return ProfileResult(**json.load(file))
        except FileNotFoundError:
            return None

    def _asked(self, writer: str) -> tuple[float | None, str, str]:
        try:
            with open(self._profile(writer, "asked"), encoding="utf-8") as file:
                seconds, form, token = (*file.read().split(" "), "", "")[:3]
        except FileNotFoundError:
            return None, PSTATS, ""
        try:
            is_possible = 0 < float(seconds) <= MAX_PROFILE_S and form in {"", PSTATS, SPEEDSCOPE}
        except ValueError:  # not yet whole
            is_possible = False
        return (float(seconds) if is_possible else None), form or PSTATS, token

    def _profile(self, writer: str, word: str) -> str:
        return os.path.join(self._root, f"profile.{writer}.{word}")

    def _answer(self, writer: str, token: str) -> str:
        return self._profile(writer, f"{token}.answer" if token else "answer")

    def _create(self, path: str, text: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._root, _DIRECTORY_MODE)
        root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._give_away(root_fd)
        finally:
            os.close(root_fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, _FILE_MODE), "w", encoding="utf-8") as file:
            self._give_away(file.fileno())
            file.write(text)

    def _give_away(self, fd: int) -> None:
        """Have what root made belong to whom the monitoring directory does."""
        owner = os.stat(self._directory)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)

    @staticmethod
    def _remove(path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
