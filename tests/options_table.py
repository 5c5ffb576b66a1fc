"""The options of a recording as the table of `docs/reference/options.md`.

Run it to see the table: `python tests/options_table.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from aqltelemetry.settings import OPTIONS


def options_table() -> Iterator[str]:
    """Yield the lines of a Markdown table with a row for each option."""
    yield "| Option | Default | Must be | Meaning |"
    yield "|---|---|---|---|"
    for option in OPTIONS.values():
        default = f"`{option.default_text}`" if option.metavar else "none"
        yield f"| `{option.keyword}` | {default} | {option.rule} | {option.help} |"


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in options_table()))
