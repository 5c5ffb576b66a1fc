from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.sinks.file_names import (
    FileName,
    enclosing,
    forms,
    is_temporary,
    may_overlap,
    parse,
    published_name,
    stamp,
    temporary,
    uncompressed,
    writer,
)

_TIMES = st.integers(0, 4_000_000_000_000_000_000)
_WRITERS = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")


@st.composite
def _names(draw: st.DrawFn) -> FileName:
    first_ns, last_ns = sorted((draw(_TIMES), draw(_TIMES)))
    first, last = sorted((draw(st.integers(0, 10**7)), draw(st.integers(0, 10**7))))
    return FileName(
        draw(st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)),
        *enclosing(first_ns, last_ns),
        draw(st.integers(1, 2**22)),
        draw(_WRITERS),
        first,
        last,
        draw(st.integers(0, 99)),
    )


@given(_names())
def test_a_name_is_parsed_into_what_it_was_built_from(name: FileName) -> None:
    assert parse(str(name)) == name


@given(_names(), st.sampled_from([".gz", ".zst"]))
def test_the_name_of_a_compressed_file_is_parsed_equally(name: FileName, suffix: str) -> None:
    compressed = f"{name}{suffix}"
    assert parse(compressed) == name
    assert writer(compressed) == name.writer
    assert published_name(compressed) == uncompressed(compressed) == str(name)
    assert set(forms(compressed)) | {compressed} == {
        f"{name}{each}" for each in ("", ".gz", ".zst")
    }


@given(_TIMES, _TIMES)
def test_the_span_in_a_name_contains_the_timepoints(one_ns: int, other_ns: int) -> None:
    first_ns, last_ns = sorted((one_ns, other_ns))
    from_ns, to_ns = enclosing(first_ns, last_ns)
    assert from_ns <= first_ns <= last_ns < to_ns
    assert to_ns - from_ns <= last_ns - first_ns + 2000


@given(_names(), st.integers(1, 10**15))
def test_later_files_of_a_prefix_sort_later(name: FileName, later_us: int) -> None:
    later = name._replace(
        from_ns=name.from_ns + 1000 * later_us, to_ns=name.to_ns + 1000 * later_us
    )
    assert str(name) < str(later)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "duration.csv",
        "duration.6b1f3a.csv",
        "runtime.20261123T201825123456.csv",
        "duration.20261399T201825123456-20261123T201925654321.1-9f3ab2c47d51e0aa.000001-000001-0.csv",
        "duration.20261123T201825123456-20261123T201925654321.1-9f3ab2c47d51e0aa.000001-000001-0.csv.xz",
        "duration.20261123T201825123456-20261123T201925654321.1-9f3ab2c47d51e0aa.000001-000001-0b.csv",
    ],
)
def test_any_other_name_is_not_a_published_file(name: str) -> None:
    assert parse(name) is None


def test_the_documented_example_is_a_name() -> None:
    name = parse(
        "duration.20261123T201825123456-20261123T201925654321"
        ".4123-9f3ab2c47d51e0aa.000001-000012-0.csv"
    )
    assert name is not None
    assert (name.prefix, name.pid, name.first, name.last) == ("duration", 4123, 1, 12)
    assert name.to_ns - name.from_ns == 60_530_865_000


def test_temporary_names_are_distinguished_from_others() -> None:
    assert is_temporary(temporary("duration", "9f3ab2c47d51e0aa", 3))
    assert not is_temporary("notes.tmp")
    assert parse(temporary("duration", "9f3ab2c47d51e0aa", 3)) is None


def test_the_writer_is_found_in_a_name() -> None:
    name = FileName("duration", 0, 1000, 7, "9f3ab2c47d51e0aa", 1, 2, 0)
    assert writer(str(name)) == "9f3ab2c47d51e0aa"
    assert writer("duration.csv") == ""


@pytest.mark.parametrize(
    ("since_ns", "until_ns", "may"),
    [
        (0, 2000, False),
        (0, 3000, True),
        (2000, 5000, True),
        (4999, 9000, True),
        (5000, 9000, False),
        (0, 9000, True),
    ],
)
def test_a_name_shows_whether_a_file_may_contain_a_time(
    since_ns: int, until_ns: int, may: bool
) -> None:
    name = str(FileName("duration", 2000, 5000, 7, "9f3ab2c47d51e0aa", 1, 2, 0))
    for form in (name, name + ".gz", name + ".zst", f"backup of {name}"):
        assert may_overlap(form, stamp(since_ns), stamp(until_ns)) is may
    assert may_overlap("duration.csv", stamp(since_ns), stamp(until_ns))
