from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.shipping.destinations.prometheus_messages import (
    Sample,
    TimeSeries,
    write_request,
)

descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
message_factory = pytest.importorskip("google.protobuf.message_factory")

_FIELDS = {
    "WriteRequest": [("timeseries", 1, "TimeSeries")],
    "TimeSeries": [("labels", 1, "Label"), ("samples", 2, "Sample")],
    "Label": [("name", 1, "string"), ("value", 2, "string")],
    "Sample": [("value", 1, "double"), ("timestamp", 2, "int64")],
}


def _request_type() -> type:
    """Return the message of the specification, as the official library makes it."""
    kind = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": kind.TYPE_STRING, "double": kind.TYPE_DOUBLE, "int64": kind.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="p", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, of in fields:
            if of in scalars:
                message.field.add(name=field, number=number, type=scalars[of], label=1)
            else:
                one = message.field.add(name=field, number=number, type=kind.TYPE_MESSAGE, label=3)
                one.type_name = f".p.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("p.WriteRequest"))  # type: ignore[no-any-return]


_REQUEST = _request_type()
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_SAMPLES = st.lists(st.builds(Sample, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.builds(TimeSeries, st.dictionaries(_TEXT, _TEXT), _SAMPLES)))
def test_the_official_library_reads_what_was_encoded(series: list[TimeSeries]) -> None:
    request = _REQUEST.FromString(write_request(series))  # type: ignore[attr-defined]
    assert [
        (
            [(label.name, label.value) for label in each.labels],
            [(sample.timestamp, sample.value) for sample in each.samples],
        )
        for each in request.timeseries
    ] == [(sorted(each.labels.items()), [*each.samples]) for each in series]


def test_a_label_without_a_value_is_left_out() -> None:
    with_empty = TimeSeries({"a": "", "b": "x"}, [Sample(1, math.inf)])
    assert write_request([with_empty]) == write_request(
        [TimeSeries({"b": "x"}, [Sample(1, math.inf)])]
    )
