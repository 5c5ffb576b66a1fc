"""Runs the services of tests/services.py, and writes the table of their results into the docs.

The table in docs/reliability.md is only replaced if each cell was tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import gmtime, strftime

from _document import RELIABILITY, put, table
from _machine import describe

_ROOT = Path(__file__).parent.parent
_TIMES = "8"
COLUMNS: Mapping[str, str] = {
    "served as bare": "test_a_recorded_service_responds_as_a_bare_one",
    "counts right": "test_each_request_is_counted_once",
    "labels right": "test_the_labels_are_the_templates_of_the_routes",
    "stop clean": "test_a_recorded_service_stops_as_a_bare_one_with_everything_published",
}
"""The tests of the columns."""


def _results(path: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the service, the way of recording, the test and its result."""
    for case in ET.parse(path).getroot().iter("testcase"):
        properties = {each.get("name"): each.get("value", "") for each in case.iter("property")}
        is_bad = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        name = case.get("name", "").partition("[")[0]
        yield (
            properties.get("service", "?"),
            properties.get("way", "?"),
            name,
            "failed" if is_bad else "passed",
        )


def rows(results: Sequence[tuple[str, str, str, str]]) -> list[list[str]]:
    """Return the rows of the table, one for each service.

    A cell says yes where both ways of recording passed the test, and names the way that
    did not otherwise.
    """
    ways = sorted({way for _, way, _, _ in results})
    outcome = {(service, way, test): result for service, way, test, result in results}
    made = []
    for service in dict.fromkeys(service for service, _, _, _ in results):
        cells = []
        for test in COLUMNS.values():
            bad = [way for way in ways if outcome.get((service, way, test)) != "passed"]
            cells.append(f"**not by {' and '.join(bad)}**" if bad else "yes")
        made.append([service, *cells])
    return made


def main() -> None:
    """Run the tests; show the table, and put it into the docs if all of them passed."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "tests/hosts/test_services.py",
        ]
        command += ["-o", "junit_family=xunit1", f"--junit-xml={report.name}", *sys.argv[1:]]
        environ = {"TIMES": _TIMES, **os.environ}
        done = subprocess.run(command, cwd=_ROOT, check=False, stdout=sys.stderr, env=environ)
        results = list(_results(report.name))
    made = table(("framework and server", *COLUMNS), rows(results))
    print(made)
    if not done.returncode and len(sys.argv) == 1:
        when = strftime("%d %B %Y", gmtime())
        put(RELIABILITY, "services", f"{'; '.join(describe())}; {when}.\n\n{made}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
