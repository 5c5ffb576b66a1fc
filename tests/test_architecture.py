"""The shape of the package: what may import what, and how large anything may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aqltelemetry

ROOT = Path(aqltelemetry.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
}
COMPILED = {path.stem: path for path in sorted(ROOT.glob("*.pyx"))}

# From the ground up; a module imports from layers below its own, or, where the
# layer is a chain, from modules before it.
LAYERS = (
    ("errors", "logs", "descriptors", "routes", "system", "twins", "backends", "natives"),
    ("quantities", "request_labels"),
    ("entries", "hosts.__init__", "hosts.route_tree", "hosts.kinds"),
    ("hosts.asgi_routes", "hosts.wsgi_mounts"),
    ("hosts.frameworks", "hosts.wsgi_routes"),
    ("process_end",),
    ("observation", "stats", "wording"),
    ("filenames", "clock", "protocols", "reading.__init__", "reading.compression"),
    ("reading.moments", "reading.frames"),
    ("reading.listing",),
    ("journal.__init__", "journal.format"),
    ("journal.marks", "journal.labels", "journal.files", "journal.placement"),
    ("journal.label_table", "journal.dir_lock"),
    ("journal.segment",),
    ("hot_path", "journal.writer", "journal.reader", "drops"),
    ("journal.sealed", "journal.salvage"),
    ("journal.orphans", "recorder", "threads", "csv_format", "csv_bytes", "csv_arrow"),
    ("csv_columns", "control", "loop_thread", "timed_proxies"),
    ("timed_results",),
    ("journal.census",),
    ("csv_frames",),
    ("reading.spans",),
    (
        *("sinks.__init__", "sinks.publication", "sinks.account"),
        *("samplers.__init__", "samplers.garbage", "samplers.process"),
        *("samplers.event_loop", "samplers.health", "stack_profiler", "timing", "loader"),
        *("exchange", "keeper", "forked", "recovery", "feed", "schedule"),
    ),
    ("sinks.removals",),
    (
        *("sinks.retention", "sinks.generation"),
        *("drain", "profiler", "option_rules", "report", "evidence"),
    ),
    ("settings",),
    ("remote", "sinks.csv_file", "audit.__init__", "audit.runs", "offline", "recorded"),
    ("unpublished",),
    ("verification",),
    ("parts",),
    ("session",),
    ("assembly", "active"),
    ("monitor",),
    ("aiohttp_classes", "hosts.templates", "hosts.tracebacks"),
    ("hosts.aiohttp_private", "hosts.aiohttp_labels"),
    ("hosts.aiohttp_documented",),
    ("aiohttp_requests", "asgi_connections", "wsgi_answers"),
    ("sync",),
    ("children",),
    ("hosts.lifecycle",),
    ("aiohttp", "asgi", "demo.__init__"),
    ("__init__",),
    (
        "wsgi",
        "demo.service",
        "demo.drive",
        "diagnosis",
        "autostart.__init__",
        *("autostart.aqltelemetry_notes", "autostart.sitecustomize"),
    ),
    ("gunicorn", "launch", "autostart.sitecustomize", "autostart.aqltelemetry_autostart"),
    ("descendants",),
    ("instrument", "commands.__init__", "commands.options"),
    ("commands.run", "commands.switch", "commands.doctor", "commands.journal"),
    ("cli",),
    ("__main__",),
)
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}

# What only one module does, as a pattern of code; everybody else asks it.
SINGLE_HOMES = {
    r"os\.environ": {
        *("settings", "demo.drive", "autostart.aqltelemetry_autostart", "twins"),
        *("autostart.aqltelemetry_notes", "autostart.sitecustomize"),
        *("commands.run", "commands.doctor"),  # for other processes
    },
    r"^import time|^from time|import datetime as": {"clock"},
    r"^(import|from) aiofiles": {"sinks.csv_file", "sinks.generation"},
    r"^ *import psutil": {"samplers.process"},
    r"^import cProfile": {"profiler"},
    r"atexit\.register": {"sync"},
    r"^import fcntl": {"system"},
    r"posix_fallocate": {"system"},
    r"os\.(link|rename|truncate|fstatvfs|scandir)\(": {"system"},
    r"^(import|from) pandas": {
        *("csv_columns", "csv_frames", "reading.frames", "reading.spans", "loader", "report"),
    },
    r"^ *(import|from) pyarrow": {"csv_arrow"},
    r"^ *(import|from) rich": {"report", "cli"},
    r"^import click": {
        *("cli", "commands.run", "commands.switch", "commands.doctor", "commands.journal"),
        "commands.options",
    },
    r"^ *import yappi": {"profiler"},
    r"posix_spawn|sigtimedwait": {"launch"},
    r"threading\.Thread\(": {"threads"},
    r"register_at_fork": {"active", "sync"},
    r"gc\.callbacks": {"samplers.garbage"},
    r"getLogger\((?!'aqltelemetry'\))": set(),
}


def _imports(path: Path, *, nested: bool = True) -> Iterator[str]:
    """Yield the names of all modules that a module imports, in functions too."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours(name: str) -> str | None:
    if name == "aqltelemetry":
        return None
    if not name.startswith("aqltelemetry."):
        return None
    module = name.removeprefix("aqltelemetry.")
    return next((each for each in (module, f"{module}.__init__") if each in MODULES), None)


def test_every_module_has_its_layer() -> None:
    assert set(LEVEL) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_layers_below(module: str) -> None:
    for name in _imports(MODULES[module]):
        imported = _ours(name)
        if imported is not None:
            assert LEVEL[imported] < LEVEL[module], f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_inside_imports_the_front_door(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "aqltelemetry":
            names = {alias.name for alias in node.names}
            assert names <= {*MODULES, *COMPILED, "journal.format", "format"}, f"{module}: {names}"


@pytest.mark.parametrize("twin", COMPILED)
def test_no_extension_declares_that_it_can_do_without_the_interpreter_lock(twin: str) -> None:
    assert "freethreading" not in COMPILED[twin].read_text().lower()


@pytest.mark.parametrize("twin", COMPILED)
def test_a_compiled_twin_imports_from_below_the_segments(twin: str) -> None:
    for module in re.findall(
        r"^from aqltelemetry\.(\S+) import", COMPILED[twin].read_text(), re.MULTILINE
    ):
        assert LEVEL[module] < LEVEL["journal.segment"]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__main__"])
def test_a_module_can_be_imported_alone(module: str) -> None:
    name = f"aqltelemetry.{module}".removesuffix(".__init__")
    subprocess.run([sys.executable, "-I", "-W", "error", "-c", f"import {name}"], check=True)


@pytest.mark.parametrize("pattern", SINGLE_HOMES)
def test_each_outside_thing_has_its_home(pattern: str) -> None:
    code = {module: _code(path) for module, path in MODULES.items()}
    users = {module for module, text in code.items() if re.search(pattern, text, re.MULTILINE)}
    assert users == SINGLE_HOMES[pattern]


def _code(path: Path) -> str:
    """Return a module's code without its comments and docstrings."""
    return ast.unparse(_Stripped().visit(ast.parse(path.read_text())))


class _Stripped(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_small(module: str) -> None:
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 32, f"{module}.{node.name}: {lines} lines"


@pytest.mark.parametrize("package", ["samplers", "sinks"])
def test_samplers_and_sinks_do_not_know_the_monitor(package: str) -> None:
    for module, path in MODULES.items():
        if module.startswith(f"{package}."):
            names = {_ours(name) for name in _imports(path)}
            assert not names & {"monitor", "session", "recorder", "drain", "keeper"}, module


@pytest.mark.parametrize("module", MODULES)
def test_nothing_prints(module: str) -> None:
    assert "print(" not in _code(MODULES[module]).replace("console.print(", "")
