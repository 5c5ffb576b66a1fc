"""The shape of the package: what may import what, and how large anything may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aqltelemetry
from house import SHARED, House, cycles, table

ROOT = Path(aqltelemetry.__file__).parent
HOUSE = House(ROOT)
EXTENSIONS = sorted(ROOT.rglob("*.pyx"))

# What only one module does, as a pattern of code; everybody else asks it.
SINGLE_HOMES = {
    r"os\.environ": {
        *("settings", "demo.drive", "autostart.aqltelemetry_autostart", "system.extensions"),
        *("autostart.aqltelemetry_notes", "autostart.sitecustomize"),
        *("commands.run", "commands.doctor", "hosts.views_process"),
        *(
            "runtime.helper_process",
            "runtime.shipping_process",
            "shipping.child",
        ),  # for others
    },
    r"^import time|^from time|import datetime as": {"system.clock"},
    r"^(import|from) aiofiles": {"sinks.csv_file", "sinks.generation"},
    r"^ *import psutil": {"samplers.process"},
    r"^import cProfile": {"runtime.profiler"},
    r"atexit\.register": {"runtime.background"},
    r"^import fcntl": {"system.syscalls"},
    r"posix_fallocate": {"system.syscalls"},
    r"os\.(link|rename|truncate|fstatvfs|scandir)\(": {"system.syscalls"},
    r"^ *(import|from) pandas": {"system.later"},
    r"^ *(import|from) pyarrow": {
        *("reading.parsers", "reading.archives.encoding", "shipping.destinations.parquet"),
    },
    r"^ *(import|from) rich": {
        *("views.layout", "views.report", "views.stalls.strip_text"),
        *("commands.report", "commands.recordings"),
        "commands.diff",
        *("views.top.help", "views.top.panels", "views.top.table"),
    },
    r"^ *(import|from) textual": {
        *("views.top.app", "views.top.help", "views.top.panels", "views.top.table"),
    },
    r"^ *import yappi": {"runtime.profiler"},
    r"posix_spawn|sigtimedwait": {"commands.launch", "runtime.helper_process"},
    r"threading\.Thread\(": {"system.threads"},
    r"register_at_fork": {"runtime.active", "runtime.background", "system.forks"},
    r"gc\.callbacks": {"samplers.garbage", "stalls.watch"},
    r"getLogger\(": {"system.logs", "settings"},
    r"^_?NS_PER_S = ": {"system.clock"},
}


def test_a_room_imports_only_what_its_docstring_says() -> None:
    wrong = {
        (room, other)
        for room in HOUSE.rooms
        if room != SHARED and room not in HOUSE.doors
        for other in HOUSE.room_imports[room] - HOUSE.may_import(room) - {SHARED}
    }
    assert wrong == set()


def test_what_rooms_may_import_has_no_cycle() -> None:
    stated = {room: HOUSE.may_import(room) for room in [*HOUSE.rooms, "nothing"]}
    assert cycles(stated) == []


def test_a_room_is_said_to_import_only_what_it_does() -> None:
    unused = {
        room: HOUSE.may_import(room) - HOUSE.room_imports[room]
        for room in HOUSE.rooms
        if HOUSE.may_import(room) - HOUSE.room_imports[room]
    }
    assert unused == {}


def test_modules_import_each_other_in_no_cycle() -> None:
    assert cycles(HOUSE.imports) == []


def test_the_top_level_and_the_folders_stay_small() -> None:
    folders = {path.parent for path in HOUSE.modules.values()}
    sizes = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > 18} == {}


def test_no_module_imports_a_door() -> None:
    wrong = {
        (name, imported)
        for name in HOUSE.modules
        if HOUSE.room(name) not in (*HOUSE.doors, "demo")
        for imported in HOUSE.imports[name] & set(HOUSE.doors)
    }
    assert wrong == set()


def test_nothing_inside_imports_the_front_door() -> None:
    wrong = {
        name: node.lineno
        for name, path in HOUSE.modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == ROOT.name
        if not {alias.name for alias in node.names} <= set(HOUSE.modules)
    }
    assert wrong == {}


def test_imports_are_absolute() -> None:
    wrong = {
        name: node.lineno
        for name, path in HOUSE.modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert wrong == {}


def test_no_extension_declares_that_it_can_do_without_the_interpreter_lock() -> None:
    assert EXTENSIONS
    assert [path for path in EXTENSIONS if "freethreading" in path.read_text().lower()] == []


_IMPORTS_EACH_ALONE = """
import os, sys, warnings
warnings.simplefilter("error")
import aiohttp.web, pandas, rich.console  # once, not in each child
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            __import__(name)
        except BaseException as exc:
            print(name, repr(exc), flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
print(failed)
"""


@pytest.mark.system  # it starts as many processes as there are modules
def test_each_module_can_be_imported_alone() -> None:
    names = [f"{ROOT.name}.{name}".removesuffix(".__init__") for name in HOUSE.modules]
    names = [name for name in names if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _IMPORTS_EACH_ALONE, *names],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"


def test_each_outside_thing_has_its_home() -> None:
    code = {module: _code(path) for module, path in HOUSE.modules.items()}
    users = {
        pattern: {module for module, text in code.items() if re.search(pattern, text, re.MULTILINE)}
        for pattern in SINGLE_HOMES
    }
    assert users == SINGLE_HOMES


def test_only_commands_import_click() -> None:
    users = {
        HOUSE.room(module)
        for module, path in HOUSE.modules.items()
        if re.search(r"^ *(import|from) click\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"commands"}


def _code(path: Path) -> str:
    """Return a module's code without its comments and docstrings."""
    return ast.unparse(_Stripped().visit(ast.parse(path.read_text())))


class _Stripped(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def test_modules_and_functions_stay_small() -> None:
    long = {
        name: len(path.read_text().splitlines())
        for name, path in HOUSE.modules.items()
        if len(path.read_text().splitlines()) > 400
    }
    assert long == {}
    long = {
        f"{name}.{node.name}": lines
        for name, path in HOUSE.modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := _body_lines(node)) > 40
    }
    assert long == {}


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_nothing_prints() -> None:
    printing = [
        name
        for name, path in HOUSE.modules.items()
        if "print(" in _code(path).replace("console.print(", "")
    ]
    assert printing == []


def test_the_map_of_the_contributors_is_the_real_one() -> None:
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    assert "\n".join(table(HOUSE)) in text
