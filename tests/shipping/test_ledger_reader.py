from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aqltelemetry.shipping.ledger_reader import LedgerReader
from memory_destination import ledger

_KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 5")
db.execute("BEGIN IMMEDIATE")
rows = ((str(number), "x" * 500) for number in range(1000))
db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
os.kill(os.getpid(), 9)
"""


@pytest.mark.system
def test_a_ledger_whose_shipper_was_killed_while_it_wrote_can_be_read(tmp_path: Path) -> None:
    with ledger(tmp_path) as book:
        path = book.path
    subprocess.run([sys.executable, "-c", _KILLED, path], check=False)
    assert os.path.exists(f"{path}-journal")
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("SELECT * FROM meta")
    with LedgerReader(path) as reader:
        assert reader.totals().files == 0
