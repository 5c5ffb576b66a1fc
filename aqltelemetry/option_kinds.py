"""The kinds of values that options have: how each is read, shown and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from aqltelemetry.conditions import CONDITIONS_FORM, parse_conditions
from aqltelemetry.errors import OptionError
from aqltelemetry.quantities import (
    BYTES_FORM,
    SECONDS_FORM,
    SWITCH_FORM,
    bytes_text,
    parse_bytes,
    parse_seconds,
    parse_switch,
    seconds_text,
    switch_text,
)

ENVIRONMENT_PREFIX = "AQLTELEMETRY_"
"""How the names of the environment variables of options begin."""
_NONE = "none"
Switch: TypeAlias = bool | str
"""Whether something is on: True, False, or a text such as "yes" or "off"."""
Seconds: TypeAlias = float | str | timedelta
"""A time: a number of seconds, a timedelta, or a text such as "90s", "1h30m" or "7d"."""
Bytes: TypeAlias = int | str
"""A size: a number of bytes, or a text such as "64m" or "2 GiB"."""


class Kind(NamedTuple):
    """A kind of value: how it is given and shown, and the rule that it must keep, in words.

    `metavar` stands for the value in `--help`; it is empty for objects, which no text can give.
    """

    rule: str
    is_valid: Callable[[Any], bool]
    text_type: type | tuple[type, ...] = ()
    parse: Callable[[Any], object] = str
    form: str = ""
    metavar: str = ""
    show: Callable[[Any], str] = str

    def value(self, given: object) -> object:
        """Return the value that a text stands for, and any other value as it is."""
        return self.parse(given) if isinstance(given, self.text_type) else given


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def path(help_text: str, rule: str = "a path") -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is a path."""
    kind = Kind(rule, _is_text, os.PathLike, os.fspath, "a path", "PATH")
    return {"kind": kind, "help": help_text}


def url(help_text: str) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is a URL, or empty."""
    kind = Kind(
        "a URL",
        lambda value: isinstance(value, str) and (not value or ":" in value),
        str,
        lambda text: "" if text == _NONE else text,
        "a URL",
        metavar="URL",
        show=lambda value: str(value) or _NONE,
    )
    return {"kind": kind, "help": help_text}


def conditions(help_text: str) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is a list of conditions, or empty."""
    kind = Kind(
        CONDITIONS_FORM,
        lambda value: isinstance(value, str),
        str,
        lambda text: "" if text == _NONE else _checked_conditions(text),
        CONDITIONS_FORM,
        metavar="CONDITIONS",
        show=lambda value: str(value) or _NONE,
    )
    return {"kind": kind, "help": help_text}


def _checked_conditions(text: str) -> str:
    """Return a text that `parse_conditions` reads; raises ValueError."""
    if text:
        parse_conditions(text)
    return text


def switch(help_text: str) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is on or off."""
    kind = Kind(
        "True or False",
        lambda value: isinstance(value, bool),
        str,
        parse_switch,
        SWITCH_FORM,
        "yes|no",
        switch_text,
    )
    return {"kind": kind, "help": help_text}


def seconds(
    help_text: str,
    rule: str = "a number of seconds above 0",
    holds: Callable[[float], bool] = lambda s: s > 0,
) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is a time in seconds."""
    kind = Kind(
        rule,
        lambda value: _is_number(value) and holds(value),
        (str, timedelta),
        parse_seconds,
        SECONDS_FORM,
        "SECONDS",
        seconds_text,
    )
    return {"kind": kind, "help": help_text}


def seconds_or_none(help_text: str, least: float) -> dict[str, Any]:
    """Return the metadata of a field that is 0, or a time of at least so many seconds."""
    rule = f"0, or a number of seconds, at least {least}"
    return seconds(help_text, rule, lambda s: s == 0 or s >= least)


def size(help_text: str, rule: str, holds: Callable[[int], bool]) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that is a size in bytes."""
    kind = Kind(
        rule,
        lambda value: _is_integer(value) and holds(value),
        str,
        parse_bytes,
        BYTES_FORM,
        "BYTES",
        bytes_text,
    )
    return {"kind": kind, "help": help_text}


def objects(help_text: str, rule: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Return the metadata of a field of `Settings` that holds objects, which no text can give."""

    def is_valid(value: object) -> bool:
        return isinstance(value, Sequence) and all(map(holds, value))

    return {"kind": Kind(f"a sequence of objects with {rule}", is_valid), "help": help_text}


class Option(NamedTuple):
    """An option, as its field of `Settings` declares it."""

    name: str
    default: Any
    kind: Kind
    help: str

    @property
    def keyword(self) -> str:
        """The name of the argument that gives it in a program."""
        return "monitoring_dir" if self.name == "directory" else self.name

    @property
    def variable(self) -> str:
        """The name of the environment variable that gives it."""
        return ENVIRONMENT_PREFIX + ("DIR" if self.name == "directory" else self.name.upper())

    @property
    def flag(self) -> str:
        """The name of the option of `aqltelemetry run` that gives it."""
        return "--dir" if self.name == "directory" else f"--{self.name.replace('_', '-')}"

    @property
    def metavar(self) -> str:
        """What stands for its value in `--help`; empty where no text can give the option."""
        return self.kind.metavar

    @property
    def rule(self) -> str:
        """What a value must be, such as "a number of seconds above 0"."""
        return self.kind.rule

    @property
    def default_text(self) -> str:
        """The default, as a text that gives the option."""
        return self.kind.show(self.default) if self.metavar else "none"

    def checked(self, given: object, shown: str) -> object:
        """Return the value that is given; raises OptionError, which names the option `shown`."""
        try:
            value = self.kind.value(given)
        except ValueError:
            raise OptionError(shown, given, f"must be {self.kind.form}") from None
        if not self.kind.is_valid(value):
            raise OptionError(shown, given, f"must be {self.rule}")
        return value
