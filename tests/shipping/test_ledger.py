from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aqltelemetry.errors import LedgerBusyError, LedgerError
from aqltelemetry.shipping.destination import Receipt
from aqltelemetry.shipping.ledger import Ledger, Plan, PlannedFile
from aqltelemetry.shipping.ledger_lock import is_locked, ledger_path
from aqltelemetry.shipping.ledger_reader import LedgerReader, ledgers_in
from aqltelemetry.sinks.file_names import FileName, enclosing
from fakes import EPOCH_NS
from memory_destination import IDENTITY, ledger

_PLAN = Plan("0" * 32, "duration", [PlannedFile("a", 100), PlannedFile("b", 50)])


def test_a_planned_shipment_is_there_after_a_restart_until_it_is_shipped(tmp_path: Path) -> None:
    with ledger(tmp_path) as first:
        first.plan(_PLAN)
    with ledger(tmp_path) as second:
        assert second.planned() == _PLAN
        second.shipped(_PLAN, Receipt(7, notes={"total": "7"}), 1)
    with ledger(tmp_path) as third:
        assert third.planned() is None
        assert third.known(["a", "b", "c"]) == {"a", "b"}
        assert third.notes(["total", "other"]) == {"total": "7"}
        assert third.totals()[:3] == (2, 7, 150)


def test_notes_of_recordings_that_ended_a_week_before_are_forgotten(tmp_path: Path) -> None:
    def plan(prefix: str, days: int) -> Plan:
        span = enclosing(EPOCH_NS, EPOCH_NS + days * 86_400 * 10**9)
        name = str(FileName(prefix, *span, 7, "a" * 16, 1, 1, 0))
        return Plan("0" * 32, prefix, [PlannedFile(name, 1)])

    with ledger(tmp_path) as made:
        made.shipped(plan("duration", 0), Receipt(1, notes={"duration a": "1"}), 1)
        made.shipped(plan("runtime", 9), Receipt(1, notes={"runtime a": "2"}), 2)
        made.shipped(plan("duration", 6), Receipt(1, notes={"duration b": "3"}), 3)
        keys = ["duration a", "runtime a", "duration b"]
        assert made.notes(keys) == {"duration a": "1", "runtime a": "2", "duration b": "3"}
        made.shipped(plan("duration", 8), Receipt(1), 4)
        assert made.notes(keys) == {"runtime a": "2", "duration b": "3"}


def test_refused_files_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    with ledger(tmp_path) as made:
        made.shipped(_PLAN, Receipt(3, refused={"b": "it is damaged"}), 5)
        assert made.known(["a", "b"]) == {"a", "b"}
        assert made.totals()[:4] == (1, 3, 100, 1)
        assert [tuple(each) for each in made.refused()] == [("b", "it is damaged", 5)]
        assert made.retry_refused() == 1
        assert made.known(["a", "b"]) == {"a"}


def test_files_of_which_the_arrival_is_found_out_later_are_known(tmp_path: Path) -> None:
    with ledger(tmp_path) as made:
        made.arrived([PlannedFile("a", 1)], 5)
        made.gone([PlannedFile("b", 1)], 5)
        assert made.known(["a", "b"]) == {"a", "b"}
        assert made.totals() == (1, 0, 1, 0, 1, 0)


def test_only_files_shipped_before_a_time_are_old(tmp_path: Path) -> None:
    with ledger(tmp_path) as made:
        made.arrived([PlannedFile("a", 1)], 5)
        made.arrived([PlannedFile("b", 1)], 6)
        made.refuse({"c": "no"}, 1)
        assert made.shipped_before(6, ["a", "b", "c"]) == {"a"}


def test_files_that_left_are_forgotten_after_a_while(tmp_path: Path) -> None:
    with ledger(tmp_path) as made:
        made.arrived([PlannedFile(name, 1) for name in "ab"], 5)
        made.arrived([PlannedFile("c", 1)], 9)
        made.forget(6, {"a"})
        assert made.known("abc") == {"a", "c"}
        assert made.totals().files == 3


def test_a_second_shipper_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    with ledger(tmp_path) as first:
        assert is_locked(path)
        with pytest.raises(LedgerBusyError, match=f"ships to {IDENTITY} already"):
            ledger(tmp_path)
        shipper = first.shipper
    assert not is_locked(path)
    with ledger(tmp_path) as second:
        assert second.shipper == shipper


def test_a_reader_sees_what_is_committed_while_a_shipper_runs(tmp_path: Path) -> None:
    with ledger(tmp_path) as made:
        made.shipped(_PLAN, Receipt(3), 5)
        with LedgerReader(str(tmp_path / "ledger.sqlite")) as reader:
            assert reader.totals() == made.totals()
            assert reader.known(["a", "z"]) == {"a"}
            assert reader.destination == IDENTITY
            assert reader.refused() == []


def test_each_destination_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    paths = [ledger_path(str(tmp_path), identity) for identity in ("a://x", "a://y", "b://x")]
    assert len(set(paths)) == 3
    for path in paths:
        with Ledger(path, "a://x"):
            pass
    assert ledgers_in(str(tmp_path)) == sorted(paths)
    assert ledgers_in(str(tmp_path / "missing")) == []


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(LedgerError, match="version 9"):
        ledger(tmp_path)
    assert not is_locked(str(tmp_path / "ledger.sqlite"))


def test_a_damaged_ledger_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"damaged" * 1000)
    with pytest.raises(LedgerError, match="not a database"):
        ledger(tmp_path)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_the_option() -> None:
    with pytest.raises(LedgerError, match="--state"):
        Ledger("/proc/none/ledger.sqlite", IDENTITY)


def test_a_ledger_that_is_being_made_or_is_in_use_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    with pytest.raises(LedgerError, match="is making it"):
        LedgerReader(str(path))
    with ledger(tmp_path):
        pass
    with pytest.raises(LedgerError, match="no such table"), LedgerReader(str(path)) as reader:
        with sqlite3.connect(path) as db:
            db.execute("DROP TABLE total")
        db.close()
        reader.totals()
