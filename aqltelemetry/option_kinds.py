"""The kinds of values that options have: how each is read, shown and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

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

_NO_URL = "none"


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
        lambda text: "" if text == _NO_URL else text,
        "a URL",
        metavar="URL",
        show=lambda value: str(value) or _NO_URL,
    )
    return {"kind": kind, "help": help_text}


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
