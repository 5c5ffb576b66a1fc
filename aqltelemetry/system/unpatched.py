"""The original functions of the standard library, where gevent or eventlet has replaced them.

gevent and eventlet replace threads by greenlets, which take turns on one thread. Recording
needs real threads: work in a greenlet would delay the application's greenlets.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.machinery import BuiltinImporter, ModuleSpec
from types import BuiltinFunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

_originals: dict[str, ModuleType] = {}
_PRIMITIVES = (
    ("_thread", "allocate_lock"),
    ("threading", "_allocate_lock"),
    ("_thread", "start_new_thread"),
    ("threading", "_start_new_thread"),
    ("threading", "_start_joinable_thread"),  # from Python 3.13 on
)


def native(module: str, name: str) -> Any:
    """Return the original function of a built-in module, also if another library replaced it."""
    found = getattr(import_module(module), name, None)
    if isinstance(found, BuiltinFunctionType):
        return found
    if module not in _originals:
        _originals[module] = _built_in(module)
    return getattr(_originals[module], name)


def are_greenlets() -> bool:
    """Return whether gevent or eventlet has replaced threads by greenlets.

    For eventlet this is true after any patch, also if it replaced only other modules, such
    as `time`: an application that asks for that uses greenlets.
    """
    return _are_gevents() or _are_eventlets()


def replacement() -> object | None:
    """Return the object that replaces a Python function that starts threads or makes locks."""
    for module, name in _PRIMITIVES:
        found: object = getattr(import_module(module), name, None)
        if found is not None and not isinstance(found, BuiltinFunctionType):
            return found
    return None


def let_greenlets_run(seconds: float) -> None:
    """Block this greenlet while others of its thread run; block the thread if there are none."""
    switch_s = _sleep_of_greenlets()
    (native("time", "sleep") if switch_s is None else switch_s)(seconds)


def may_switch() -> bool:
    """Return whether other greenlets of this thread can run now.

    They can't if the caller runs in the greenlet of their event loop, as signal handlers do.
    """
    return _sleep_of_greenlets() is not None


def native_popen() -> type[subprocess.Popen[bytes]]:
    """Return the class that starts processes from real threads, which gevent's own can't do."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("subprocess"):
        return import_module("subprocess").Popen  # type: ignore[no-any-return]
    # gevent has replaced parts that the original class uses too.
    return _copy_of(importlib.util.find_spec("subprocess")).Popen  # type: ignore[no-any-return]


def _are_gevents() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _are_eventlets() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return bool(getattr(patcher, "already_patched", None))


def _sleep_of_greenlets() -> Any:
    """Return the `sleep` that lets other greenlets run; None if there are none."""
    if _are_gevents():
        gevent = sys.modules["gevent"]
        return None if gevent.getcurrent() is gevent.get_hub() else gevent.sleep
    if _are_eventlets():
        hub = sys.modules["eventlet.hubs"].get_hub()
        running = sys.modules["greenlet"].getcurrent()
        return None if running is hub.greenlet else sys.modules["eventlet"].sleep
    return None


def _built_in(module: str) -> ModuleType:
    """Return a new, unchanged copy of a built-in module."""
    return _copy_of(BuiltinImporter.find_spec(module))


def _copy_of(spec: ModuleSpec | None) -> ModuleType:
    if spec is None or spec.loader is None:
        msg = "a module of the standard library is missing"
        raise ImportError(msg)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
