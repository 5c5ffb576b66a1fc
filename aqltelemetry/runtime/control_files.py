"""The files by which running recordings are controlled: `<monitoring directory>/.control`.

`off` exists while recordings are switched off. `dump.asked` requests a dump.
`profile.<writer>.asked` requests a profile and holds its length in seconds; removing it ends the
profile. The process stores the result in `profile.<writer>.answer`. A writer is named as in file
names: unlike a PID, the name is unique in all containers that share a volume. A request may contain
a token, which is then part of the name of the result, so that two requests do not collide.
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
"""The longest time of a profile, in seconds."""
_DIRECTORY = ".control"
_OFF = "off"
_DUMP = "dump.asked"
_DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640


class ControlRequests(NamedTuple):
    """The requests to a recording; `profile_s` is None if no profile is requested."""

    off: bool = False
    profile_s: float | None = None
    profile_form: str = PSTATS
    token: str = ""


class ProfileResult(NamedTuple):
    """The result of a profile: its file, or the reason why there is none."""

    path: str = ""
    error: str = ""


class ControlFiles:
    """The control files of a monitoring directory; all methods raise OSError."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._root = os.path.join(directory, _DIRECTORY)

    def requests(self, writer: str) -> ControlRequests:
        """Return the requests to a recording."""
        # The directory is rarely there, and one call finds that out.
        if not os.path.isdir(self._root):
            return ControlRequests()
        return ControlRequests(self.is_off(), *self._asked(writer))

    def is_off(self) -> bool:
        """Return whether recordings into the directory are switched off."""
        try:
            os.stat(os.path.join(self._root, _OFF))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def switch(self, *, on: bool) -> bool:
        """Switch all recordings into the directory on or off; return whether that is a change."""
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

    def request_dump(self) -> None:
        """Request a dump from the process that watches the recordings into the directory."""
        with suppress(FileExistsError):
            self._create(os.path.join(self._root, _DUMP), "")

    def take_dump_request(self) -> bool:
        """Return whether a dump is requested, and withdraw the request."""
        try:
            os.unlink(os.path.join(self._root, _DUMP))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def request_profile(
        self, writer: str, seconds: float, form: str = PSTATS, token: str = ""
    ) -> None:
        """Request a profile of a process; raises FileExistsError while one is requested.

        `form` is PSTATS or SPEEDSCOPE, `token` is for `profile_result` and `cancel_profile`.
        """
        question = f"{seconds} {form} {token}".strip()
        self._create(self._profile(writer, "asked"), question)
        self._remove(self._answer(writer, token))

    def cancel_profile(self, writer: str, token: str = "") -> None:
        """Withdraw the request for a profile, and remove its result."""
        if self._asked(writer)[2] == token:
            self._remove(self._profile(writer, "asked"))
        self._remove(self._answer(writer, token))

    def store_profile_result(self, writer: str, answer: ProfileResult, token: str = "") -> None:
        """Store the result of a profile that is still requested."""
        path = self._answer(writer, token)
        if not os.path.exists(self._profile(writer, "asked")) or self._asked(writer)[2] != token:
            return  # the request was withdrawn
        self._create(path + ".new", json.dumps(answer._asdict()))
        os.replace(path + ".new", path)
        self._remove(self._profile(writer, "asked"))

    def profile_result(self, writer: str, token: str = "") -> ProfileResult | None:
        """Return the result that a process has stored; None before that."""
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
        except ValueError:  # not yet completely written
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
        """Give a file that root made to the owner of the monitoring directory."""
        owner = os.stat(self._directory)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)

    @staticmethod
    def _remove(path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
