from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqltelemetry.errors import PrefixError
from aqltelemetry.observation import (
    MAX_LABEL_BYTES,
    RESERVED,
    check_prefix,
    clean_label,
    is_sampler_prefix,
    quote_field,
)

_ANY_TEXT = st.text(st.characters(), max_size=400)
_PRINTABLE = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=MAX_LABEL_BYTES // 4
)


@given(_ANY_TEXT)
def test_a_label_is_one_line_of_at_most_200_bytes_of_utf8(text: str) -> None:
    label = clean_label(text)
    assert len(label.encode()) <= MAX_LABEL_BYTES
    assert len(f"{label}|".splitlines()) == 1


@given(_ANY_TEXT)
def test_a_clean_label_stays_as_it_is(text: str) -> None:
    assert clean_label(clean_label(text)) == clean_label(text)


@given(_PRINTABLE)
def test_a_short_printable_label_is_unchanged(text: str) -> None:
    assert clean_label(text) == text


@given(st.text("aé€😀", min_size=300, max_size=400), st.text("xyz", min_size=1))
def test_two_long_labels_stay_distinct(text: str, more: str) -> None:
    assert clean_label(text) != clean_label(text + more)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb\tc\x00", r"a\r\nb\tc\x00"),
        ("\x85\u2028\ud800", r"\x85\u2028\ud800"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_control_characters_are_escaped(text: str, label: str) -> None:
    assert clean_label(text) == label


@pytest.mark.parametrize(("value", "label"), [(12, "12"), (None, "None"), (b"x", "b'x'")])
def test_a_label_of_another_type_is_converted_to_text(value: object, label: str) -> None:
    assert clean_label(value) == label


def test_a_long_label_keeps_its_beginning() -> None:
    label = clean_label("/very/long" * 100)
    assert label.startswith("/very/long/very/long")
    assert label[-9] == "~"


@given(st.lists(_PRINTABLE.map(clean_label), min_size=2, max_size=5))
def test_quoted_fields_are_read_back_by_any_csv_reader(fields: list[str]) -> None:
    line = ",".join(quote_field(text) for text in fields) + "\n"
    assert list(csv.reader(io.StringIO(line, newline=""), strict=True)) == [fields]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        *(("plain text", "plain text"), ("a,b", '"a,b"'), ('say "x"', '"say ""x"""'), ("", '""')),
        *((" a", '" a"'), ("a ", '"a "'), (" ", '" "')),
    ],
)
def test_a_field_is_quoted_only_where_needed(text: str, field: str) -> None:
    assert quote_field(text) == field


@pytest.mark.parametrize("prefix", ["custom", "my-app_2", "a" * 40])
def test_a_prefix_is_letters_digits_underscore_and_hyphen(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", RESERVED)
def test_the_prefixes_of_built_in_files_are_reserved(prefix: str) -> None:
    with pytest.raises(PrefixError, match=f"and not .*'{prefix}'"):
        check_prefix(prefix)
    assert is_sampler_prefix(prefix) == (prefix == "runtime")


@pytest.mark.parametrize("prefix", ["", "a.b", "../x", "a b", "a" * 41, "-a", "é", "a\n"])
def test_a_prefix_that_could_name_another_file_is_an_error(prefix: str) -> None:
    with pytest.raises(PrefixError) as caught:
        check_prefix(prefix)
    assert caught.value.prefix == prefix
