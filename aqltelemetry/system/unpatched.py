"""Functions of the standard library as the interpreter has them, and who has replaced them.

gevent and eventlet replace threads by greenlets, which take turns on one thread. What
records must not take part in that: a greenlet of ours would work in the time of the
application's.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.machinery import BuiltinImporter
from types import BuiltinFunctionType, ModuleType
from typing import Any

_originals: dict[str, ModuleType] = {}
_PRIMITIVES = (
    ("_thread", "allocate_lock"),
    ("threading", "_allocate_lock"),
    ("_thread", "start_new_thread"),
    ("threading", "_start_new_thread"),
    ("threading", "_start_joinable_thread"),  # from Python 3.13 on
)


def native(module: str, name: str) -> Any:
    """Return a function of a built-in module, whoever has replaced it there."""
    found = getattr(import_module(module), name, None)
    if isinstance(found, BuiltinFunctionType):
        return found
    if module not in _originals:
        _originals[module] = _built_in(module)
    return getattr(_originals[module], name)


def are_greenlets() -> bool:
    """Return whether gevent or eventlet has put greenlets in the place of threads.

    eventlet's greenlets count also where it has replaced other modules only, such as
    `time`: an application that asks for that uses them.
    """
    return _are_gevents() or _are_eventlets()


def replacement() -> object | None:
    """Return what starts threads, or makes locks, in the place of Python's own functions."""
    for module, name in _PRIMITIVES:
        found: object = getattr(import_module(module), name, None)
        if found is not None and not isinstance(found, BuiltinFunctionType):
            return found
    return None


def let_greenlets_run(seconds: float) -> None:
    """Block this thread for a while, or this greenlet while others of its thread run."""
    switch_s = _sleep_of_greenlets()
    (native("time", "sleep") if switch_s is None else switch_s)(seconds)


def may_switch() -> bool:
    """Return whether other greenlets of this thread can run now.

    They can't while their event loop itself runs this, as it does a signal handler.
    """
    return _sleep_of_greenlets() is not None


def _are_gevents() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _are_eventlets() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return bool(getattr(patcher, "already_patched", None))


def _sleep_of_greenlets() -> Any:
    """Return the sleep that lets other greenlets run; None where there is nothing to run."""
    if _are_gevents():
        gevent = sys.modules["gevent"]
        return None if gevent.getcurrent() is gevent.get_hub() else gevent.sleep
    if _are_eventlets():
        hub = sys.modules["eventlet.hubs"].get_hub()
        running = sys.modules["greenlet"].getcurrent()
        return None if running is hub.greenlet else sys.modules["eventlet"].sleep
    return None


def _built_in(module: str) -> ModuleType:
    """Make a new copy of a built-in module, which nobody has changed."""
    spec = BuiltinImporter.find_spec(module)
    if spec is None or spec.loader is None:
        msg = f"no module {module} is built in"
        raise ImportError(msg)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
