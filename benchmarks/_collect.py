"""Runs the benchmarks and writes their results.

These are README.md, results.json, results.svg, and the tables of docs/scale.md.

Every file here without a leading underscore is a benchmark, except those that look for losses.
What a benchmark shows by `_table.show` becomes a table of the report, and what it prints
otherwise is quoted. `_collect.py loading` runs one of them and keeps the results of the others.
"""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

from _fleet_arithmetic import write_page
from _table import KEPT_IN

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
HEAD = """# Benchmarks: what it costs, compared with other packages

Written by `make bench`; `make bench ARGS="loading import_cost"` repeats some of them. All figures
of a table are of one run, in which the contenders took turns. Ratios travel to other machines,
times do not.

![Ratios of the contenders, as in the tables below](results.svg)
"""
_OURS = (
    *("aqltelemetry", "TelemetryDB", "import aqltelemetry", "and start a monitor"),
    *("with time_block", "async with time_block", "timed()", "record("),
    *("formatting, ", "the sink, "),
)
"""How the names of contenders of aqltelemetry begin."""
_CURVE_LINES = 8
_RIGS = {"compare", "fault_matrix", "fleet", "ship_storm", "storm"}
"""These are no part of the report."""
Results: TypeAlias = dict[str, dict[str, Any]]


def run(name: str) -> dict[str, Any] | None:
    """Run a benchmark; return its tables and what it printed, None if it failed."""
    print(f"== {name}", flush=True)
    with tempfile.NamedTemporaryFile("r") as kept:
        printed = []
        with subprocess.Popen(
            (sys.executable, str(HERE / f"{name}.py")),
            env={**os.environ, KEPT_IN: kept.name},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                printed.append(line)
        if process.returncode:
            return None
        facts = [json.loads(line) for line in kept]
    machine = [line for fact in facts for line in fact.get("machine", ())]
    tables = [fact for fact in facts if "title" in fact]
    quoted = "" if tables else "".join(printed)
    return {"machine": machine, "tables": tables, "printed": quoted}


def render(results: Results) -> str:
    """Return the report as Markdown."""
    parts = [HEAD]
    for name, found in sorted(results.items()):
        parts.append(f"## {name}\n")
        parts.append(f"{_docstring(name)}\n")
        if found["tables"]:
            parts += [f"{line}  " for line in found["machine"][:-1]]
            parts.append(f"{found['machine'][-1]}\n")
        else:
            parts.append(f"```text\n{found['printed'].strip()}\n```\n")
        for table in found["tables"]:
            parts.append(f"**{table['title']}**\n")
            parts += ["|" + "|".join(row) + "|" for row in _rows(table)]
            parts.append("")
    return "\n".join(parts)


def _rows(table: dict[str, Any]) -> list[list[str]]:
    align = ["---", *["---:"] * (len(table["columns"]) - 1)]
    return [table["columns"], align, *table["cells"]]


def _docstring(name: str) -> str:
    text = (HERE / f"{name}.py").read_text()
    return ast.get_docstring(ast.parse(text)) or ""


def draw(results: Results, path: Path) -> None:
    """Draw the tables that name a column to be drawn."""
    import matplotlib as mpl  # noqa: PLC0415 - for the picture alone

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "the same picture of the same figures"
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of its output

    tables = [
        table for _, found in sorted(results.items()) for table in found["tables"] if table["drawn"]
    ]
    if not tables:
        return
    heights = [_CURVE_LINES if table["is_curve"] else len(table["cells"]) + 2 for table in tables]
    figure, all_axes = plt.subplots(
        len(tables),
        figsize=(9, 0.3 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for axes, table in zip(all_axes[:, 0], tables, strict=True):
        (_curve if table["is_curve"] else _bars)(axes, table)
        axes.set_title(f"{table['title']}: {table['drawn']}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _bars(axes: Any, table: dict[str, Any]) -> None:
    at = table["columns"].index(table["drawn"])
    figures = [float(row[at].replace(",", "") or "nan") for row in table["cells"]]
    names = [row[0].replace("`", "") for row in table["cells"]]
    colours = ["tab:blue" if _is_ours(name) else "tab:gray" for name in names]
    known = [figure for figure in figures if not math.isnan(figure)]
    if max(known) > 20 * min(known):
        axes.set_xscale("log")
    axes.bar_label(axes.barh(names, figures, color=colours), [row[at] for row in table["cells"]])
    axes.invert_yaxis()
    axes.margins(x=0.1)


def _curve(axes: Any, table: dict[str, Any]) -> None:
    at = table["columns"].index(table["drawn"])
    numbers, figures = (
        [float(row[column].replace(",", "")) for row in table["cells"]] for column in (0, at)
    )
    axes.plot(numbers, figures, "o-", color="tab:blue")
    axes.set_xscale("log")
    axes.set_ylim(0, max(2, *figures))
    axes.set_xlabel(table["columns"][0])


def _is_ours(name: str) -> bool:
    return name.startswith(_OURS)


def main() -> int:
    """Run benchmarks and write the report; return how many failed."""
    every = sorted({path.stem for path in HERE.glob("[!_]*.py")} - _RIGS)
    chosen = sys.argv[1:] or every
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = []
    for name in chosen:
        found = run(name)
        if found is None:
            failed.append(name)
            continue
        results = {known: results[known] for known in results if known in every}
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        (HERE / "README.md").write_text(render(results))
        draw(results, HERE / "results.svg")
        write_page(results)
    if failed:
        print(f"failed: {', '.join(failed)}; their earlier results are kept", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
