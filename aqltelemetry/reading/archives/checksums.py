"""Checksums of rows that do not depend on their order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from aqltelemetry.reading.rows import Rows

_Keys = npt.NDArray[np.uint64]


def keys(rows: Rows) -> _Keys:
    """Return 64 bits for each row, of its time, its value and its label."""
    labels = np.array([_number(label) for label in rows.labels], np.uint64)
    times = rows.timepoints_ns.view(np.uint64)
    values = np.ascontiguousarray(rows.measurements, np.float64).view(np.uint64)
    found = _mixed(_mixed(times) + values)
    return _mixed(found + labels[rows.label_codes]) if len(labels) else found


def checksum(rows: Rows) -> int:
    """Return the sum of the keys of the rows, modulo 2^64."""
    return int(keys(rows).sum(dtype=np.uint64))


def add_by_code(sums: _Keys, codes: npt.NDArray[np.int32], found: _Keys) -> None:
    """Add the keys of rows to the sum of the code of each row."""
    if not len(codes):
        return
    begins = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    np.add.at(sums, codes[begins], np.add.reduceat(found, begins))


def _number(label: str) -> int:
    digest = blake2b(label.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(keys: _Keys) -> _Keys:
    """Return keys of which each bit depends on all bits: the finalizer of splitmix64."""
    found = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
