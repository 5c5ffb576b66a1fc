"""Python runs this module at its start in every process below `aqltelemetry run`.

Every version of Python can run it, and the program runs even if this module fails.
"""

import importlib
import os
import sys

if __name__ == "sitecustomize":
    _own = sys.modules.pop("sitecustomize", None)
    try:
        if sys.version_info >= (3, 11):  # noqa: UP036 - any version may run it
            importlib.import_module("aqltelemetry_autostart").begin()
        elif "AQLTELEMETRY_RUN" in os.environ:
            importlib.import_module("aqltelemetry_notes").note(
                "failed",
                "Python %d.%d is older than 3.11" % sys.version_info[:2],  # noqa: UP031
            )
    except Exception as exc:  # noqa: BLE001 - as above
        sys.stderr.write("aqltelemetry: process %d is not recorded: %r\n" % (os.getpid(), exc))  # noqa: UP031
    # This module hides the `sitecustomize` of the environment: run that one, too.
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _here]
    try:
        importlib.import_module("sitecustomize")
    except ImportError as exc:
        if getattr(exc, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        if _own is not None:
            sys.modules.setdefault("sitecustomize", _own)
