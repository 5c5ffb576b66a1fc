"""Every exception that aqltelemetry raises."""

from __future__ import annotations


class TelemetryError(Exception):
    """Base of every error that aqltelemetry raises."""


class OptionError(TelemetryError, ValueError):
    """Raised when an option has a value that breaks its rule, or is unknown.

    Attributes:
        option: The name of the option, or of the environment variable.
        value: The value as it was given.
        rule: What the value must be, in words.
    """

    def __init__(self, option: str, value: object, rule: str) -> None:
        super().__init__(f"{option}={value!r}: {rule}")
        self.option = option
        self.value = value
        self.rule = rule


class MomentError(OptionError, TypeError):
    """Raised when a value is not a time.

    It is a ValueError and a TypeError, and has the attributes of OptionError.
    """


class MonitoringDirectoryError(TelemetryError, OSError):
    """Raised when a monitoring directory can't be used.

    Attributes:
        directory: The directory as it was given.
        rule: What the directory must be, in words.
    """

    def __init__(self, directory: str, rule: str) -> None:
        super().__init__(f"monitoring directory {directory!r}: {rule}")
        self.directory = directory
        self.rule = rule


class StateError(TelemetryError, RuntimeError):
    """Raised when the state of a monitor does not allow a call."""


class AlreadyRunningError(StateError):
    """Raised by `start` when a monitor of this process is recording already.

    Attributes:
        directory: The directory that the other monitor records into.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"a monitor is already recording into {directory!r} in this process: "
            "stop it before another start"
        )
        self.directory = directory


class AlreadySetUpError(StateError):
    """Raised by `setup` when the application is recorded already."""

    def __init__(self) -> None:
        super().__init__("setup was called for this application before")


class WrongApplicationError(TelemetryError, TypeError):
    """Raised when a host gets an application of another kind, which it can't record.

    Attributes:
        kind: "aiohttp", "ASGI" or "WSGI"; None if unknown.
        line: The line to write instead; None if unknown.
    """

    def __init__(self, name: str, expected: str, kind: str | None, line: str | None) -> None:
        article = "a" if expected == "WSGI" else "an"
        text = f"{name} is not {article} {expected} application"
        if kind is not None:
            text += f" but {'a' if kind == 'WSGI' else 'an'} {kind} one; write: {line}"
        super().__init__(text)
        self.kind = kind
        self.line = line


class NotRunningError(StateError):
    """Raised when a call needs a running monitor, and the monitor is not running."""

    def __init__(self) -> None:
        super().__init__("the monitor is not running: start it first")


class ProfilerError(TelemetryError, RuntimeError):
    """Raised when a profile can't start because another profiler is active."""


class FreeThreadingError(TelemetryError, RuntimeError):
    """Raised by `start` when Python is free-threaded and runs without the interpreter lock."""

    def __init__(self) -> None:
        super().__init__(
            "this Python runs without the interpreter lock, which recording relies on: set "
            "PYTHON_GIL=1, or use a Python that is not free-threaded"
        )


class DeliveryError(StateError):
    """Raised by `flush` when not everything reached the sinks; the rest stays in the journal."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(f"not everything was given to the sinks: {reason!r}")


class PrefixError(TelemetryError, ValueError):
    """Raised when a file prefix is not 1 to 40 letters, digits, `_` and `-`, or is reserved.

    Attributes:
        prefix: The prefix as it was given.
    """

    def __init__(self, prefix: object) -> None:
        super().__init__(
            f"prefix={prefix!r}: must be 1 to 40 letters, digits, '_' and '-', the first no '-', "
            "and not 'duration', 'runtime', 'account', 'profiler', 'cpu_time', 'stall', "
            "'stall-details' or 'removed', which aqltelemetry uses itself"
        )
        self.prefix = prefix


class SegmentError(TelemetryError, ValueError):
    """Raised when a file is not a journal segment that this version can read."""


class SeriesError(TelemetryError, LookupError):
    """Raised when recorded data contain no series of a name.

    Attributes:
        name: The name as it was given.
        similar: Existing names, the most similar first.
    """

    def __init__(self, what: str, name: str, similar: tuple[str, ...]) -> None:
        hint = f"; similar: {', '.join(map(repr, similar))}" if similar else ""
        super().__init__(f"{what} {name!r}{hint} (missing_ok=True gives an empty one)")
        self.name = name
        self.similar = similar


class CompressedFileError(TelemetryError, OSError):
    """Raised when a compressed file is damaged, or the package to decompress it is missing."""


class ArchiveError(TelemetryError, OSError):
    """Raised when an archive is damaged, or is none.

    Attributes:
        path: The file.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


class ArchiveBusyError(StateError):
    """Raised when another process makes archives of a directory.

    Attributes:
        directory: The directory.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(f"{directory}: another process makes archives there")
        self.directory = directory


class MissingExtraError(TelemetryError, ImportError):
    """Raised when a package is not installed that only some users need.

    Attributes:
        extra: The extra of aqltelemetry that installs it.
    """

    def __init__(self, extra: str, reason: ImportError) -> None:
        super().__init__(f"{reason}: install aqltelemetry[{extra}]", name=reason.name)
        self.extra = extra


class DestinationError(TelemetryError, RuntimeError):
    """Raised when a store that files are shipped to can't be used as it is.

    Attributes:
        destination: The URL of the store, without secrets.
    """

    def __init__(self, destination: str, reason: str) -> None:
        super().__init__(f"{destination}: {reason}")
        self.destination = destination


class LedgerError(TelemetryError, OSError):
    """Raised when the ledger of what was shipped can't be used.

    Attributes:
        path: The file of the ledger, or of its lock.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the ledger {path} can't be used: {reason}")
        self.path = path


class LedgerBusyError(TelemetryError, RuntimeError):
    """Raised when another process ships to the same destination with the same ledger.

    Attributes:
        path: The file of the lock.
    """

    def __init__(self, path: str, destination: str) -> None:
        super().__init__(f"another process ships to {destination} already; it has locked {path}")
        self.path = path


class ViewsError(TelemetryError, RuntimeError):
    """Raised when the process that shows a recording within a service can't be reached."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the process that shows the recording can't be reached: {reason}")


class CommandError(TelemetryError, OSError):
    """Raised when a command can't be run.

    Attributes:
        command: The program of the command.
        exit_code: The exit code that a shell would return: 126 or 127.
    """

    def __init__(self, command: str, reason: OSError) -> None:
        super().__init__(f"{command}: {reason.strerror}")
        self.command = command
        self.exit_code = 127 if isinstance(reason, FileNotFoundError) else 126
