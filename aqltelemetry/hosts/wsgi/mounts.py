"""Finds the application in a tree of WSGI applications that a request's path leads to.

Werkzeug's `DispatcherMiddleware` adds the prefix of an application to SCRIPT_NAME, but servers and
other middlewares add text of the client to it. So the prefix is looked up in the tree by the
request's path: only prefixes of the application itself become a part of a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from aqltelemetry.hosts.kinds import WSGI, kind_of
from aqltelemetry.system.logs import log

_MOST_LAYERS = 20
_MOST_CLOSURES = 5
_MOST_LEAVES = 1_000
# The attributes in which middlewares keep the application that they wrap.
_WRAPPED = ("app", "application", "wsgi_app", "_app", "__wrapped__")


class Place(NamedTuple):
    """An application in a tree, and the prefix under which it is mounted."""

    prefix: str
    app: object


class MountTree:
    """The applications that a middleware wraps.

    Mounts are looked up again for each request, since applications may be mounted later.
    """

    def __init__(self, app: object) -> None:
        self._app = app
        # The leaf of each application by its id, which is unique only while the application lives.
        self._leaves: dict[int, tuple[object, object]] = {}

    def has_mounts(self) -> bool:
        """Return whether an application is mounted anywhere."""
        return any(_mounts(each) is not None for each in _layers(self._app))

    def applications(self) -> list[object]:
        """Return all applications of the tree, middlewares included."""
        found: dict[int, object] = {}
        waiting = [self._app]
        while waiting:
            for each in _layers(waiting.pop()):
                if id(each) in found:
                    break
                found[id(each)] = each
                mounts = _mounts(each)
                if mounts is not None:
                    waiting.extend((each.app, *mounts.values()))  # type: ignore[attr-defined]
        return list(found.values())

    def find(self, path: str) -> Place:
        """Return the application for a path, which is the PATH_INFO of the request."""
        app, prefix = self._app, ""
        for _ in range(_MOST_LAYERS):
            app = self._leaf(app)
            mounts = _mounts(app)
            if mounts is None:
                break
            mount = _mount_of(path, mounts)
            prefix += mount
            path = path[len(mount) :]
            app = mounts.get(mount, app.app)  # type: ignore[attr-defined]
        return Place(_text(prefix), app)

    def _leaf(self, app: object) -> object:
        """Return the first dispatcher within an application, or the innermost application."""
        known = self._leaves.get(id(app))
        if known is None:
            *_, leaf = _layers(app)
            known = (app, leaf)
            if len(self._leaves) < _MOST_LEAVES:
                self._leaves[id(app)] = known
        return known[1]

    def find_safely(self, environ: Mapping[str, Any]) -> Place:
        """Return the application for a request; an exception is logged, and the request goes on."""
        try:
            return self.find(environ.get("PATH_INFO", ""))
        except Exception as exc:  # noqa: BLE001 - the tree consists of user code
            log.debug("no mount of a request: %r", exc)
            return Place("", None)


def _layers(app: object, depth: int = 0) -> Iterator[object]:
    """Yield an application and those that it wraps, down to a dispatcher or the innermost one."""
    seen: set[int] = set()
    while app is not None and len(seen) < _MOST_LAYERS:
        if id(app) in seen or (isinstance(app, MethodType) and id(app.__self__) in seen):
            return
        yield app
        seen.add(id(app))
        app = _wrapped(app, depth) if _mounts(app) is None else None


def _mounts(app: object) -> Mapping[str, object] | None:
    """Return the applications of a dispatcher by their prefixes; None for other applications."""
    mounts = getattr(app, "mounts", None)
    if isinstance(mounts, Mapping) and callable(getattr(app, "app", None)):
        return mounts
    return None


def _wrapped(app: object, depth: int) -> object:
    if isinstance(app, MethodType):
        return app.__self__
    if isinstance(app, FunctionType):
        return getattr(app, "__wrapped__", None) or _closed_over(app, depth)
    attributes = vars(app) if hasattr(app, "__dict__") else {}
    if kind_of(app) == WSGI and not _is_own_wrapper(app):
        # An application of a framework; middlewares may be around its `wsgi_app`.
        return attributes.get("wsgi_app")
    for name in _WRAPPED:
        found = attributes.get(name) or (getattr(app, name, None) if _is_own_wrapper(app) else None)
        if callable(found):
            return found
    return None


def _is_own_wrapper(app: object) -> bool:
    return type(app).__module__.startswith("aqltelemetry.")


def _closed_over(function: FunctionType, depth: int) -> object:
    """Return the application within a middleware that is a function, if that is certain."""
    found: list[object] = []
    if depth >= _MOST_CLOSURES:
        return None
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        layers = _layers(content, depth + 1) if callable(content) else ()
        if any(_mounts(each) is not None or kind_of(each) == WSGI for each in layers):
            found.append(content)
    return found[0] if len(found) == 1 else None


def _mount_of(path: str, mounts: Mapping[str, object]) -> str:
    # The same rule as DispatcherMiddleware's: the longest prefix of whole segments.
    while "/" in path:
        if path in mounts:
            return path
        path = path.rpartition("/")[0]
    return path if path in mounts else ""


def _text(prefix: str) -> str:
    # By PEP 3333, text holds bytes decoded as Latin-1.
    try:
        return prefix.encode("latin-1").decode()
    except UnicodeError:
        return prefix
