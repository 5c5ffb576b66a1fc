"""Finds the files that are still to be shipped: a shipper sends CSV files, not archives."""

from __future__ import annotations

import os
from collections.abc import Collection

from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY
from aqltelemetry.shipping.ledger_reader import LedgerReader, ledgers_in


def unshipped(directory: str, published: Collection[str]) -> set[str]:
    """Return the files that a shipper with a ledger in the directory has not shipped.

    Args:
        directory: The monitoring directory.
        published: The names under which files were published.

    Raises:
        LedgerError: A ledger can't be read.
    """
    found: set[str] = set()
    for path in ledgers_in(os.path.join(directory, STATE_DIRECTORY)):
        with LedgerReader(path) as ledger:
            found |= set(published) - ledger.known(published)
    return found
