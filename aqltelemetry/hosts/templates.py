"""The hosts' option `template`: the user's function that names the route of a request."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from aqltelemetry.errors import OptionError
from aqltelemetry.settings import TEMPLATE_VARIABLE, template_name
from aqltelemetry.system.logs import log

_T = TypeVar("_T")
_RULE = "must be a function of the request, or the name of one, as module:function"


def chosen_template(
    given: Callable[[_T], str | None] | str | None,
) -> Callable[[_T], str | None] | None:
    """Return the function that names routes, or None if none is configured.

    Parameters:
        given: The option of a host: a function, its name as `module:function`, or None, which
            means the function named by the environment variable AQLTELEMETRY_TEMPLATE. If that
            can't be imported, this is logged and the variable is ignored.

    Raises:
        OptionError: `given` is neither a function nor the name of one that can be imported.
    """
    if isinstance(given, str):
        try:
            return _resolve(given)
        except Exception as exc:
            raise OptionError("template", given, f"{_RULE}; {_reason(exc)}") from exc
    if given is not None:
        if not callable(given):
            raise OptionError("template", given, _RULE)
        return given
    name = template_name()
    return None if name is None else _EnvironmentTemplate(name)


def with_fallback(
    template: Callable[[_T], str | None] | None, known: Callable[[_T], str | None]
) -> Callable[[_T], str | None]:
    """Return a function that calls `template`, and `known` where that returns None or ""."""
    if template is None:
        return known

    def template_or_known(request: _T) -> str | None:
        return template(request) or known(request)

    return template_or_known


class _EnvironmentTemplate:
    """The function that AQLTELEMETRY_TEMPLATE names, imported at once or by the first request.

    The second attempt is for a middleware that is created while the module of the function is
    being imported.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Callable[[Any], str | None] | None = None
        self._is_final = False
        self._import(is_final=False)

    def __call__(self, request: Any) -> str | None:
        if not self._is_final:
            self._import(is_final=True)
        return None if self._function is None else self._function(request)

    def _import(self, *, is_final: bool) -> None:
        try:
            self._function = _resolve(self._name)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the application goes on
            if is_final:
                log.error("%s=%r is ignored: %s", TEMPLATE_VARIABLE, self._name, _reason(exc))
            self._is_final = is_final
        else:
            self._is_final = True


def _resolve(name: str) -> Callable[[Any], str | None]:
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(_RULE)
    found: Any = _module(module)
    for part in function.split("."):
        found = getattr(found, part)
    if not callable(found):
        msg = f"{name} is not a function"
        raise TypeError(msg)
    made: Callable[[Any], str | None] = found
    return made


def _module(name: str) -> ModuleType:
    # The program's own module is __main__; an import by its name would run it again.
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = os.path.basename(getattr(main, "__file__", None) or "")
    own_name = spec.name if spec is not None else file.removesuffix(".py")
    if name == own_name and name not in sys.modules:
        return main
    return importlib.import_module(name)


def _reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
