from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.errors import OptionError
from aqltelemetry.hosts.templates import chosen_template, with_fallback
from aqltelemetry.settings import template_name

_MODULE = """
class Routes:
    @staticmethod
    def of(request):
        return f"of {request}"
def route(request):
    return f"route {request}"
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    """Return the name of a module that can be imported, and has not been."""
    name = f"templates_of_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_function_is_used_as_it_is() -> None:
    def own(request: object) -> str:
        return "/x"

    assert chosen_template(own) is own
    assert chosen_template(None) is None


@pytest.mark.parametrize(("function", "found"), [("route", "route 1"), ("Routes.of", "of 1")])
def test_a_function_may_be_given_by_its_name(module: str, function: str, found: str) -> None:
    own: Any = chosen_template(f"{module}:{function}")
    assert own(1) == found


@pytest.mark.parametrize(
    "name", ["", "route", ":route", "{}:", "{}", "{}:none", "{}:number", "no.such.module:route"]
)
def test_an_option_that_names_no_function_is_an_error_at_once(module: str, name: str) -> None:
    with pytest.raises(OptionError, match=r"template=.*module:function"):
        chosen_template(name.format(module))


@pytest.mark.parametrize("given", [7, object(), ["a:b"]])
def test_an_option_that_is_no_function_is_an_error_at_once(given: Any) -> None:
    with pytest.raises(OptionError, match="template="):
        chosen_template(given)


def test_the_environment_names_the_function_where_no_option_does(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", f"{module}:route")
    for given, found in ((None, "route 1"), (lambda _: "own", "own")):
        own: Any = chosen_template(given)
        assert own(1) == found


@pytest.mark.parametrize("name", ["route", "no.such.module:route", "{}:none", "{}:number"])
def test_a_wrong_name_in_the_environment_is_logged_once_and_ignored(
    module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", name.format(module))
    own: Any = chosen_template(None)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert [own(number) for number in range(3)] == [None] * 3
    assert caplog.text.count("AQLTELEMETRY_TEMPLATE=") == 1
    assert "is ignored" in caplog.text


@pytest.mark.parametrize("failure", ["raise SystemExit(3)", "1 / 0", "import no_such_module"])
def test_a_module_that_fails_at_its_import_is_logged_and_ignored(
    tmp_path: Path,
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: str,
) -> None:
    (tmp_path / f"{module}.py").write_text(failure)
    monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", f"{module}:route")
    own: Any = chosen_template(None)
    with caplog.at_level(logging.ERROR, "aqltelemetry"):
        assert own(1) is None
    assert "is ignored" in caplog.text


def test_a_function_defined_after_its_middleware_is_found_by_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_at_import.py").write_text(
        "from aqltelemetry.hosts.templates import chosen_template\n"
        "own = chosen_template(None)\n" + _MODULE
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AQLTELEMETRY_TEMPLATE", "made_at_import:route")
    import made_at_import  # type: ignore[import-not-found]

    assert made_at_import.own(1) == "route 1"


_PROGRAM = """
print("runs")
from aqltelemetry.hosts.templates import chosen_template
own = chosen_template(None)
def route(request):
    return "of the program"
print(own(1))
"""


@pytest.mark.parametrize("way", [("program.py",), ("-m", "program")])
def test_a_function_of_the_program_itself_does_not_run_the_program_twice(
    tmp_path: Path, way: tuple[str, ...]
) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    environ = {"AQLTELEMETRY_TEMPLATE": "program:route", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, *way],
        cwd=tmp_path,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["runs", "of the program"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_where_it_returns_nothing_the_frameworks_template_is_used(nothing: str | None) -> None:
    ask = with_fallback(lambda request: "/own" if request else nothing, lambda _: "/known")
    assert [ask(1), ask(0)] == ["/own", "/known"]


def test_without_one_the_frameworks_template_is_used() -> None:
    assert with_fallback(None, lambda request: f"/known/{request}")(1) == "/known/1"


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, None), ({"AQLTELEMETRY_TEMPLATE": ""}, None), ({"AQLTELEMETRY_TEMPLATE": "a:b"}, "a:b")],
)
def test_an_empty_variable_is_ignored(environ: dict[str, str], name: str | None) -> None:
    assert template_name(environ) == name
