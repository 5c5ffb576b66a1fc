"""Defects that `ship_storm.py --plant NAME` puts into the shipper, to see whether it finds them.

Each replaces functions of the program in the process that runs it; the program has no such switch.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aqltelemetry.shipping.destination import Receipt, Shipment
from aqltelemetry.shipping.destinations import clickhouse_tables
from aqltelemetry.shipping.destinations.clickhouse import ClickHouse
from aqltelemetry.shipping.destinations.parquet import ParquetStore
from aqltelemetry.shipping.destinations.postgresql import PostgreSQL
from aqltelemetry.shipping.ledger import Ledger, Plan
from aqltelemetry.shipping.shipper import Shipper
from aqltelemetry.system.clock import epoch_ns


def ignore_the_stores_ledger(scheme: str) -> None:
    """Let the store take each shipment as if it had never seen one of its files."""
    kinds: dict[str, tuple[type, str, Callable[[Any], Any]]] = {
        "postgresql": (PostgreSQL, "_claim", _claim_all),
        "clickhouse": (ClickHouse, "_ship", _insert_all),
        "chdb": (ClickHouse, "_ship", _insert_all),
        "file": (ParquetStore, "_ship", _as_another),
    }
    kind, name, make = kinds[scheme]

    async def none(_self: Any, _names: Sequence[str]) -> frozenset[str]:
        return frozenset()

    _set(kind, name, make(getattr(kind, name)))
    _set(kind, "shipped", none)


def _claim_all(claim: Any) -> Any:
    async def claim_all(self: Any, prefix: str, names: Sequence[str]) -> Collection[str]:
        await claim(self, prefix, names)
        return names

    return claim_all


def _insert_all(_ship: Any) -> Any:
    def insert(self: Any, shipment: Shipment) -> Receipt:
        table = clickhouse_tables.table_of(shipment.prefix)
        other = replace(shipment, id=uuid.uuid4().hex)
        return Receipt(*self._insert(table, other, shipment.files))

    return insert


def _as_another(ship: Any) -> Any:
    def ship_another(self: Any, shipment: Shipment) -> Receipt:
        receipt: Receipt = ship(self, replace(shipment, id=uuid.uuid4().hex))
        return receipt

    return ship_another


def note_before_the_store_has_it(_scheme: str) -> None:
    """Note in the local ledger that a shipment has arrived before it is sent."""
    plan_one = Ledger.plan

    def plan_and_note(self: Ledger, plan: Plan) -> None:
        plan_one(self, plan)
        self.shipped(plan, Receipt(0), epoch_ns())

    _set(Ledger, "plan", plan_and_note)


def recompose_after_a_crash(_scheme: str) -> None:
    """Forget the shipment of which it is unknown whether it arrived, and plan another one."""

    async def all_of(_self: Shipper, found: Sequence[Any]) -> Sequence[Any]:
        return found

    _set(Ledger, "planned", lambda _: None)
    _set(Shipper, "_without_arrived", all_of)


def keep_totals_in_memory(_scheme: str) -> None:
    """Keep the totals of recordings for as long as the shipper lives, not in the ledger."""
    kept: dict[str, str] = {}
    shipped = Ledger.shipped

    def shipped_only(self: Ledger, plan: Plan, receipt: Receipt, at_ns: int) -> None:
        kept.update(receipt.notes)
        shipped(self, plan, replace(receipt, notes={}), at_ns)

    def notes(_self: Ledger, keys: Iterable[str]) -> Mapping[str, str]:
        return {key: kept[key] for key in keys if key in kept}

    _set(Ledger, "shipped", shipped_only)
    _set(Ledger, "notes", notes)


def _set(kind: type, name: str, function: Callable[..., Any]) -> None:
    setattr(kind, name, function)


PLANTS: Mapping[str, Callable[[str], None]] = {
    "store-ledger-ignored": ignore_the_stores_ledger,
    "noted-too-early": note_before_the_store_has_it,
    "recomposed": recompose_after_a_crash,
    "totals-in-memory": keep_totals_in_memory,
}
"""The defects; each is planted for the scheme of a URL."""
