"""Shells complete commands, options and directories, as docs/reference/command-line.md says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from aqltelemetry.commands.cli import main
from pages import Page, environment

pytestmark = pytest.mark.system
_SETUP = dict(
    re.findall(
        r"^\| (bash|zsh|fish) \| [^|]+ \| `([^`]+)` \|$",
        Page("docs/reference/command-line.md").path.read_text(),
        re.MULTILINE,
    )
)
_SETUP = {shell: line.replace("\\|", "|") for shell, line in _SETUP.items()}
# What each shell does when the tab key is pressed after `$LINE`.
_BASH = """
{setup}
words=($LINE); [ "${{LINE: -1}}" = " " ] && words+=("")
COMP_WORDS=("${{words[@]}}"); COMP_CWORD=$((${{#words[@]}} - 1)); COMP_LINE=$LINE
compopt() {{ COMPREPLY=($(compgen -d -- "${{COMP_WORDS[COMP_CWORD]}}")); }}
_aqltelemetry_completion aqltelemetry
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
_FISH = '{setup}\ncomplete --do-complete "$LINE"\n'


def test_the_documentation_names_each_shell() -> None:
    assert set(_SETUP) == {"bash", "zsh", "fish"}


def _complete(shell: str, line: str, cwd: Path) -> list[str]:
    script = {"bash": _BASH, "fish": _FISH}[shell].format(setup=_SETUP[shell])
    done = subprocess.run(
        [shell, "-c", script],
        cwd=cwd,
        env={**environment(), "LINE": line, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [found.split("\t")[0] for found in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_options_and_directories(
    shell: str, tmp_path: Path, debian_package: Callable[[str, str], Path]
) -> None:
    debian_package(shell, f"/bin/{shell}")
    (tmp_path / "_monitoring").mkdir()
    (tmp_path / "_file").touch()
    assert sorted(_complete(shell, "aqltelemetry re", tmp_path)) == ["recover", "report"]
    assert "--since" in _complete(shell, "aqltelemetry report --s", tmp_path)
    for command in ("report", "diff", "plot", "verify", "top"):
        found = _complete(shell, f"aqltelemetry {command} _", tmp_path)
        assert [each.rstrip("/") for each in found] == ["_monitoring"], command


def test_the_script_for_zsh_is_valid_and_its_answers_are_those_of_the_others(
    tmp_path: Path, debian_package: Callable[[str, str], Path]
) -> None:
    zsh = str(debian_package("zsh", "/bin/zsh"))
    script = tmp_path / "completion.zsh"
    command = ["aqltelemetry"]
    script.write_bytes(_answer(command, _AQLTELEMETRY_COMPLETE="zsh_source"))
    subprocess.run([zsh, "-n", str(script)], check=True)
    answer = _answer(
        command,
        _AQLTELEMETRY_COMPLETE="zsh_complete",
        COMP_WORDS="aqltelemetry rep",
        COMP_CWORD="1",
    )
    assert answer.decode().split("\n")[:2] == ["plain", "report"]


def _answer(command: list[str], **variables: str) -> bytes:
    done = subprocess.run(
        command, env={**environment(), **variables}, capture_output=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("line", ["report ", "diff a ", "verify ", "doctor --dir "])
def test_directories_are_completed_wherever_one_is_expected(line: str) -> None:
    words = ["aqltelemetry", *line.split(" ")]
    completion = BashComplete(main, {}, "aqltelemetry", "_AQLTELEMETRY_COMPLETE")
    found = completion.get_completions(words[1:-1], words[-1])
    assert [item.type for item in found] == ["dir"]
