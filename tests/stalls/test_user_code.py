"""The file of code shows whether it is the user's own."""

from __future__ import annotations

import asyncio
import json.decoder

import click

from aqltelemetry.stalls import user_code
from aqltelemetry.stalls.user_code import innermost_of_user, is_users


def test_code_of_python_of_packages_and_of_this_one_is_not_the_users() -> None:
    for file in (asyncio.__file__, json.decoder.__file__, click.__file__, user_code.__file__):
        assert not is_users(file)
    assert not is_users("<frozen importlib._bootstrap>")
    assert is_users(__file__)
    assert is_users("/srv/app/aqltelemetry_app/views.py")
    assert is_users("<stdin>")


def test_the_innermost_line_of_the_user_is_below_those_of_libraries() -> None:
    mine = (test_code_of_python_of_packages_and_of_this_one_is_not_the_users.__code__, 7)
    library = (json.decoder.JSONDecoder.decode.__code__, 3)
    found = innermost_of_user([library, mine, library])
    assert found is not None
    assert (found.file, found.number, found.function) == (__file__, 7, mine[0].co_qualname)
    assert innermost_of_user([library]) is None
