"""Encodes the messages of Prometheus remote write 1.0.

https://prometheus.io/docs/specs/prw/remote_write_spec/ has the format, of four messages of
Protocol Buffers: WriteRequest (1: TimeSeries), TimeSeries (1: Label, 2: Sample), Label (1: name,
2: value), Sample (1: value, 2: timestamp in milliseconds).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_DOUBLE = struct.Struct("<Bd")
# A field's number and its wire type, 2 for bytes, 1 for a double, 0 for an integer.
_BYTES_1, _BYTES_2 = b"\x0a", b"\x12"
_DOUBLE_1, _INTEGER_2 = 0x09, b"\x10"
_LOW, _MORE = 0x7F, 0x80
_SIGN = 1 << 64


class Sample(NamedTuple):
    """A value at a time, in milliseconds since the epoch."""

    at_ms: int
    value: float


class TimeSeries(NamedTuple):
    """Samples with the same labels, in order of time; `__name__` is the name of the metric."""

    labels: Mapping[str, str]
    samples: Sequence[Sample]


def write_request(series: Iterable[TimeSeries]) -> bytes:
    """Return the message that stores time series, not compressed."""
    return b"".join(_field(_BYTES_1, _time_series(each)) for each in series)


def _time_series(series: TimeSeries) -> bytes:
    # The labels of a time series are sorted; an empty one is the same as none.
    labels = (
        _field(_BYTES_1, _text(_BYTES_1, name) + _text(_BYTES_2, value))
        for name, value in sorted(series.labels.items())
        if value
    )
    samples = (_field(_BYTES_2, _sample(each)) for each in series.samples)
    return b"".join((*labels, *samples))


def _sample(sample: Sample) -> bytes:
    return _DOUBLE.pack(_DOUBLE_1, sample.value) + _INTEGER_2 + _varint(sample.at_ms % _SIGN)


def _text(tag: bytes, text: str) -> bytes:
    return _field(tag, text.encode(errors="replace"))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a number that is not negative, seven bits in each byte, the lowest ones first."""
    found = bytearray()
    while number > _LOW:
        found.append(number & _LOW | _MORE)
        number >>= 7
    found.append(number)
    return bytes(found)
