"""The chart library in the page is the one that its authors published."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tarfile
import urllib.request
from pathlib import Path

import pytest

from aqltelemetry.views import html

VENDOR = Path(html.__file__).parent / "page" / "vendor"
NOTES = (VENDOR / "README.md").read_text()
_URL = "https://registry.npmjs.org/uplot/-/uplot-1.6.32.tgz"
_IN_PACKAGE = {
    "uPlot.iife.min.js": "package/dist/uPlot.iife.min.js",
    "uPlot.min.css": "package/dist/uPlot.min.css",
    "uPlot.LICENSE": "package/LICENSE",
}


def _noted() -> dict[str, str]:
    return {
        name: digest
        for digest, name in re.findall(r"^    ([0-9a-f]{64})  (\S+)$", NOTES, re.MULTILINE)
    }


def test_each_file_has_the_digest_that_is_noted() -> None:
    names = {path.name for path in VENDOR.iterdir()} - {"README.md"}
    digests = {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in names}
    assert digests == _noted()
    assert set(digests) == set(_IN_PACKAGE)


@pytest.mark.system
def test_the_files_are_those_of_the_package_in_the_registry() -> None:
    try:
        with urllib.request.urlopen(_URL, timeout=60) as response:
            data = response.read()
    except OSError as exc:
        if os.environ.get("AQLTELEMETRY_CI") == "1":
            raise
        pytest.skip(f"needs {_URL}: {exc}")
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    assert f"sha512-{digest}\n" in NOTES
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        for name, member in _IN_PACKAGE.items():
            file = package.extractfile(member)
            assert file is not None
            assert file.read() == (VENDOR / name).read_bytes()
