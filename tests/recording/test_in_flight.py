from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from aqltelemetry.errors import SegmentError
from aqltelemetry.journal import in_flight as fmt
from aqltelemetry.journal.in_flight import InFlight, InFlightHeader, read_in_flight
from aqltelemetry.recording import in_flight, in_flight_slots
from twinned import compiled_twin


@pytest.fixture(params=["pure", "compiled"])
def slots(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Each of the twins, without a table of slots at the begin and the end."""
    if request.param == "pure":
        twin: ModuleType = in_flight_slots
    else:
        twin = compiled_twin("recording._in_flight_slots")
    before = twin.installed()
    yield twin
    twin.install(before)


def _mapped() -> mmap.mmap:
    mapped = mmap.mmap(-1, fmt.FILE_BYTES)
    header = InFlightHeader("0123456789abcdef", os.getpid(), 5, 7, "a-boot").pack()
    mapped[: len(header)] = header
    return mapped


def _read(mapped: mmap.mmap) -> InFlight:
    return read_in_flight(mapped[:])


def test_a_request_is_in_the_file_from_its_begin_to_its_end(slots: ModuleType) -> None:
    slots.install(mapped := _mapped())
    first = slots.claim("GET", "/users/7", 11)
    second = slots.claim("POST", "/orders", 12)
    found = _read(mapped)
    assert [(each.text, each.begin_ns) for each in found.requests] == [
        ("GET /users/7", 11),
        ("POST /orders", 12),
    ]
    assert {each.thread for each in found.requests} == {threading.get_native_id()}
    assert found.header == InFlightHeader("0123456789abcdef", os.getpid(), 5, 7, "a-boot")
    slots.release(first)
    assert [each.text for each in _read(mapped).requests] == ["POST /orders"]
    slots.release(second)
    assert _read(mapped).requests == []


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "/a?token=secret", "GET /a"),
        ("GET", "/caf\u00e9", "GET /caf\u00e9"),
        ("GET", "/caf\u00e9".encode().decode("latin-1"), "GET /caf\u00e9"),
        ("GET", "/\u4e16\u754c", "GET /\u4e16\u754c"),
        ("GET", "/\ud800", "GET "),
        ("GET", None, "GET "),
        (None, "/x", " /x"),
        ("PROPPATCHPROPPATCH", "/x", "PROPPATCHPROPPAT /x"),
        ("GET", "/" + 1000 * "x", "GET /" + 219 * "x"),
        ("GET", "", "GET "),
    ],
)
def test_the_text_is_the_method_and_the_path_without_the_query(
    slots: ModuleType, method: object, path: object, text: str
) -> None:
    slots.install(mapped := _mapped())
    slots.claim("GET", "/" + 300 * "y", 1)  # leaves text behind in the next slot's place
    handle = slots.claim("GET", "/" + 300 * "y", 2)
    slots.release(handle)
    slots.claim(method, path, 3)
    assert _read(mapped).requests[-1].text == text


def test_requests_beyond_the_slots_are_counted(slots: ModuleType) -> None:
    slots.install(mapped := _mapped())
    handles = [slots.claim("GET", "/", number) for number in range(fmt.SLOTS + 3)]
    found = _read(mapped)
    assert (len(found.requests), found.without_slot) == (fmt.SLOTS, 3)
    assert slots.used() == fmt.SLOTS
    assert slots.count() == fmt.SLOTS + 3
    for handle in handles:
        slots.release(handle)
    found = _read(mapped)
    assert (len(found.requests), found.without_slot) == (0, 0)
    assert slots.count() == 0


def test_a_handle_of_an_earlier_recording_frees_nothing(slots: ModuleType) -> None:
    slots.install(_mapped())
    old = slots.claim("GET", "/old", 1)
    slots.install(mapped := _mapped())
    slots.claim("GET", "/new", 2)
    slots.release(old)
    assert [each.text for each in _read(mapped).requests] == ["GET /new"]
    slots.install(None)
    slots.release(old)
    assert slots.claim("GET", "/", 3) == slots.NO_HANDLE == 0
    assert slots.count() == 0
    slots.release(0)


def test_a_slot_that_does_not_match_its_check_sum_is_not_shown(slots: ModuleType) -> None:
    slots.install(mapped := _mapped())
    slots.claim("GET", "/users/7", 11)
    slots.claim("GET", "/users/8", 12)
    for at in (0, 4, 8, 16, 20, 32, 36):
        whole = mapped[:]
        mapped[fmt.SLOTS_AT + at] ^= 1
        found = _read(mapped)
        assert ([each.text for each in found.requests], found.damaged) == (["GET /users/8"], 1)
        mapped[:] = whole
    # Not in another place either.
    mapped[fmt.SLOTS_AT : fmt.SLOTS_AT + 256] = mapped[fmt.SLOTS_AT + 256 : fmt.SLOTS_AT + 512]
    assert _read(mapped).damaged == 1


def test_threads_do_not_share_a_slot(slots: ModuleType) -> None:
    slots.install(mapped := _mapped())
    wrong: list[str] = []

    def work(name: str) -> None:
        for number in range(2000):
            handle = slots.claim("GET", f"/{name}/{number}", number)
            texts = [each.text for each in _first(mapped, 8)]
            if texts.count(f"GET /{name}/{number}") != 1:
                wrong.append(f"{name}/{number}")
            slots.release(handle)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(str(each),)) for each in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert wrong == []
    assert slots.used() <= 8
    assert _read(mapped).requests == []


def _first(mapped: mmap.mmap, count: int) -> list[fmt.Request]:
    found = []
    for slot in range(count):
        try:
            request = fmt.read_slot(mapped, slot)
        except SegmentError:
            continue
        if request is not None:
            found.append(request)
    return found


def test_the_requests_of_this_process_can_be_read_in_it() -> None:
    before = in_flight.installed()
    in_flight.install(_mapped())
    try:
        assert in_flight.current_requests() == []
        later = in_flight.claim("GET", "/later", 9)
        in_flight.claim("GET", "/sooner", 8)
        assert [each.text for each in in_flight.current_requests()] == ["GET /sooner", "GET /later"]
        in_flight.release(later)
        assert [each.text for each in in_flight.current_requests()] == ["GET /sooner"]
    finally:
        in_flight.install(before)
    in_flight.install(None)
    assert in_flight.current_requests() == []
    in_flight.install(before)
