"""Run the tests of the core on each supported Python that this machine has.

`make test-pythons` calls it, and passes arguments on to pytest:

    nox                                       all Pythons
    nox -s core-3.12 -- tests/journal -x      one of them, and a part of the tests

Pythons are found on PATH and among pyenv's versions; one that is missing is skipped.
"""

import glob
import os
import sys

import nox

_PROJECT = nox.project.load_toml("pyproject.toml")
# `make test` runs the tests on the Python that nox itself runs on.
_THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
_OTHERS = [each for each in nox.project.python_versions(_PROJECT) if each != _THIS]

nox.needs_version = ">=2024.4.15"
nox.options.envdir = os.path.join(".venv", "nox")
nox.options.reuse_existing_virtualenvs = True
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

_VERSIONS = os.path.join(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"), "versions")
_PYENV = sorted(glob.glob(os.path.join(_VERSIONS, "3.*", "bin")), reverse=True)
os.environ["PATH"] = os.pathsep.join([*_PYENV, os.environ["PATH"]])


@nox.session(python=_OTHERS)
def core(session: nox.Session) -> None:
    """Run the tests of what needs no framework and no server."""
    session.install("--editable", ".[test-quick]")
    session.run("pytest", "-q", "-p", "no:cacheprovider", *session.posargs)
