"""What is built of the project, and that each fact stands in one place."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build from a copy, so that neither leaves anything in the other."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "aqltelemetry", source / "aqltelemetry", ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", made, source],
        check=True,
        capture_output=True,
        timeout=110,
    )
    return zipfile.ZipFile(next(made.glob("*.whl")))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "aqltelemetry").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert names == wanted


def test_the_wheel_is_typed_licensed_and_has_its_command(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    folder = info.removesuffix("METADATA")
    metadata = wheel.read(info).decode()
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert f"{folder}licenses/LICENSE" in wheel.namelist()
    assert (
        "aqltelemetry = aqltelemetry.cli:main" in wheel.read(f"{folder}entry_points.txt").decode()
    )


def test_a_plain_installation_is_light() -> None:
    names = {re.split(r"[^a-z-]", each)[0] for each in FACTS["project"]["dependencies"]}
    assert names == {"aiofiles", "click", "psutil"}


def test_the_extra_all_holds_every_extra_of_users() -> None:
    extras = FACTS["project"]["optional-dependencies"]
    reached: set[str] = set()

    def reach(name: str) -> None:
        if name not in reached:
            reached.add(name)
            for requirement in extras[name]:
                if match := re.fullmatch(r"aqltelemetry\[(.+)\]", requirement):
                    for inner in match[1].split(","):
                        reach(inner)

    reach("all")
    assert reached == set(extras) - {"test", "lint", "bench"}


def test_no_fact_is_in_two_files() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    tools = set(FACTS["tool"])
    assert not tools & set(setup.sections())
    assert "metadata" not in setup.sections()
    assert FACTS["project"]["version"] == version("aqltelemetry")


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {FACTS['project']['version']}" in (ROOT / "CHANGELOG.md").read_text()
