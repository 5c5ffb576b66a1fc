"""Finds the files that are still to be shipped, before they leave the directory of a shipper.

A shipper ships from archives too, but it may not be able to read another directory.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY
from aqltelemetry.shipping.ledger_reader import LedgerReader, ledgers_in


def unshipped(directory: str, target: str, published: Collection[str]) -> set[str]:
    """Return the files that a shipper with a ledger in the directory has not shipped.

    Args:
        directory: The monitoring directory.
        target: Where archives of them go; none has to wait if that is the same directory.
        published: The names under which files were published.

    Raises:
        LedgerError: A ledger can't be read.
    """
    found: set[str] = set()
    if target == directory:
        return found
    for path in ledgers_in(os.path.join(directory, STATE_DIRECTORY)):
        with LedgerReader(path) as ledger:
            found |= set(published) - ledger.known(published)
    return found
