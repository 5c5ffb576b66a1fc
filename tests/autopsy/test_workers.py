"""Some cells of `benchmarks/autopsies.py`: the autopsy of a worker names the request it died in."""

from __future__ import annotations

from pathlib import Path

import pytest
from autopsies import KINDS, cell

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("kind", "how", "cause"),
    [
        ("Gunicorn, UvicornWorker", "SIGKILL", "killed"),
        ("Gunicorn, sync", "timeout, Python code", "timeout"),
        ("`run -- gunicorn`, gthread", "SIGSEGV", "crashed"),
    ],
)
def test_the_autopsy_of_a_worker_names_its_request_and_how_it_ended(
    tmp_path: Path, kind: str, how: str, cause: str
) -> None:
    outcome = cell(KINDS[kind], how, tmp_path)
    assert outcome.is_right, outcome.text
    assert outcome.text.partition(" ")[0] == cause
