"""pandas, imported when it is first used: commands do that while they read files."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__all__ = ["pd"]

if TYPE_CHECKING:
    import pandas as pd
else:
    if find_spec("pandas") is None:
        raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

    class _Later:
        """Stands for a module; each use of an attribute imports it, if it was not yet."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self._name), name)

    pd = _Later("pandas")
