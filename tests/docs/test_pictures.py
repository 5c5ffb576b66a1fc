"""The pictures of the documentation are made by `make pictures`, and are used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pages import ROOT, pages

_IMAGES = ROOT / "docs" / "img"
_MAX_BYTES = 500_000


def test_each_picture_is_small_and_used() -> None:
    text = "".join(page.path.read_text() for page in pages())
    pictures = list(_IMAGES.iterdir())
    assert pictures
    assert [path.name for path in pictures if f"img/{path.name})" not in text] == []
    assert [path.name for path in pictures if path.stat().st_size > _MAX_BYTES] == []


@pytest.mark.system
def test_all_pictures_are_made_from_a_recording(
    tmp_path: Path, debian_package: Callable[[str, str], object]
) -> None:
    debian_package("chromium", "/usr/bin/chromium")
    subprocess.run([sys.executable, ROOT / "docs" / "pictures.py", "--to", tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in _IMAGES.iterdir()}
