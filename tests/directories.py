"""What tests do to directories that are in use."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove_at_once(directory: Path) -> None:
    """Remove a directory in one step, so that a thread that writes into it sees all or nothing."""
    aside = directory.with_name(f"{directory.name}.removed")
    directory.rename(aside)
    shutil.rmtree(aside)
