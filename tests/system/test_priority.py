from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aqltelemetry.system.priority import go_last

_PROGRAM = """
import os
from aqltelemetry.system.priority import go_last
go_last()
print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


@pytest.mark.system
@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="not on Linux")
def test_the_priority_is_the_lowest_one_and_no_other_process_is_interrupted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "19 True\n"


def test_a_system_that_forbids_it_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object) -> None:
        raise PermissionError

    given: list[int] = []
    monkeypatch.setattr("os.nice", given.append)
    monkeypatch.setattr("os.sched_setscheduler", forbidden)
    go_last()
    assert given == [19]
