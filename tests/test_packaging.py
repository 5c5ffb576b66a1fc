"""What is built of the project, and that each fact stands in one place."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from aqltelemetry.system import extensions

ROOT = Path(__file__).parent.parent
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _built(made: Path, **environment: str) -> Path:
    """Build a wheel from a copy, so that neither leaves anything in the other."""
    source = made / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.c", "*.so")
    shutil.copytree(ROOT / "aqltelemetry", source / "aqltelemetry", ignore=ignored)
    # By way of the source distribution, which has to hold all that it takes.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, source],
        env=os.environ | environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(made.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(_built(tmp_path_factory.mktemp("dist")))


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "aqltelemetry").rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed"
    }
    wanted.add("zz_aqltelemetry.pth")
    pages = (*(ROOT / "aqltelemetry" / "views" / folder for folder in ("page", "comparison")),)
    files = [path for page in pages for path in page.rglob("*") if path.is_file()]
    wanted |= {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    package = ROOT / "aqltelemetry"
    twinned = [path.relative_to(package).with_suffix("") for path in package.rglob("*.pyx")]
    compiled = {f"aqltelemetry/{twin}{suffix}" for twin in twinned}
    if extensions.have_extensions() or os.environ.get("AQLTELEMETRY_CI") == "1":
        assert names == wanted | compiled
    else:
        assert names - compiled == wanted


_RECORDS = """
import asyncio, sys
from aqltelemetry import Monitor, time_block
async def main():
    async with Monitor(sys.argv[1]):
        with time_block("block"):
            pass
asyncio.run(main())
"""


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_the_wheel_works_in_a_clean_environment(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    assert wheel.filename is not None
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*install, wheel.filename], check=True, timeout=300)
    subprocess.run(
        [python, "-I", "-W", "error", "-c", _RECORDS, tmp_path / "recorded"],
        check=True,
        timeout=60,
    )
    assert ",block," in next((tmp_path / "recorded").glob("duration.*.csv")).read_text()
    assert _version(python) == f"aqltelemetry, version {version('aqltelemetry')} ({_twin(wheel)})"


def _version(python: str | Path, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [python, *options, "-m", "aqltelemetry", "--version"],
        cwd="/",  # here is a package of that name too
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def _twin(wheel: zipfile.ZipFile) -> str:
    is_compiled = any(name.endswith(".so") for name in wheel.namelist())
    return "compiled" if is_compiled else "pure Python"


@pytest.mark.packaging
@pytest.mark.timeout(600)
def test_without_a_compiler_there_is_a_wheel_all_the_same_of_the_pure_twins(
    tmp_path: Path,
) -> None:
    made = _built(tmp_path, CC="/nowhere/cc")
    with zipfile.ZipFile(made) as wheel:
        assert _twin(wheel) == "pure Python"
        wheel.extractall(tmp_path / "installed")
    # Without `site`, which would find what is missing in the package that is tested from here.
    path = [str(tmp_path / "installed"), sysconfig.get_path("purelib")]
    found = _version(sys.executable, "-S", PYTHONPATH=os.pathsep.join(path))
    assert found.endswith("(pure Python)")


@pytest.mark.packaging
def test_the_wheel_is_typed_licensed_and_has_its_command(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    folder = info.removesuffix("METADATA")
    metadata = wheel.read(info).decode()
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert f"{folder}licenses/LICENSE" in wheel.namelist()
    assert (
        "aqltelemetry = aqltelemetry.commands.cli:program"
        in wheel.read(f"{folder}entry_points.txt").decode()
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
    assert reached == set(extras) - {"test", "test-quick", "lint", "docs", "bench"}


def test_no_fact_is_in_two_files() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    tools = set(FACTS["tool"])
    assert not tools & set(setup.sections())
    assert "metadata" not in setup.sections()
    assert FACTS["project"]["version"] == version("aqltelemetry")


def test_the_changelog_has_this_version_and_only_usual_sections() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[([^]]+)\]", text, re.MULTILINE)[:2] == [
        "Unreleased",
        FACTS["project"]["version"],
    ]
    usual = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)", text, re.MULTILINE)) <= usual


@pytest.mark.packaging
def test_the_files_of_a_release_pass_the_check_of_the_index(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename is not None
    files = sorted(str(path) for path in Path(wheel.filename).parent.glob("aqltelemetry-*"))
    assert [Path(each).suffix for each in files] == [".whl", ".gz"]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2


def test_a_commit_is_checked_by_the_commands_of_make_lint() -> None:
    lint = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--assume-old=.venv/lint", "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: (.+)", hooks)
    for command in lint.stdout.splitlines():
        assert command in entries


def test_a_release_is_built_and_checked_by_make_dist() -> None:
    commands = subprocess.run(
        ["make", "--dry-run", "dist"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "-m build " in commands
    assert "twine check --strict" in commands
