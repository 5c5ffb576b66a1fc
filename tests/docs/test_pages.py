"""What the pages of the documentation state is so, where a machine can check it."""

from __future__ import annotations

import json
import re

import click
import pytest

from aqltelemetry.commands.cli import COMMANDS, main
from aqltelemetry.observation import CSV_HEADER
from aqltelemetry.sinks.file_names import parse
from aqltelemetry.views.columns import TABLES
from options_table import options_table
from pages import ROOT, pages, run

_PAGES = {page.name: page for page in pages()}
_COMMANDS = _PAGES["docs/reference/command-line.md"].path.read_text()
_RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text())


@pytest.mark.parametrize("name", _PAGES)
def test_links_lead_somewhere(name: str) -> None:
    path = _PAGES[name].path
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" not in link:
            target, _, anchor = link.partition("#")
            file = (path.parent / target) if target else path
            assert file.exists(), link
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                # As GitHub makes anchors: without punctuation.
                words = [re.sub(r"[^\w -]", "", title.lower()) for title in titles]
                assert anchor in {each.replace(" ", "-") for each in words}, link


def test_the_readme_fits_two_hundred_lines() -> None:
    assert len(_PAGES["README.md"].path.read_text().splitlines()) <= 200


def _rows(page: str) -> list[list[str]]:
    lines = re.findall(r"^\| (.+) \|$", _PAGES[page].path.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_table_of_options_is_that_of_the_settings() -> None:
    assert "\n".join(options_table()) in _PAGES["docs/reference/options.md"].path.read_text()


def test_each_command_and_each_of_its_options_is_listed() -> None:
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", _COMMANDS, re.MULTILINE))
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        (section,) = [text for title, text in sections.items() if name in title.split()]
        options = [each for each in command.params if isinstance(each, click.Option)]
        flags = {flag for each in options for flag in each.opts} - {"--dir"}
        missing = [flag for flag in sorted(flags) if f"`{flag}" not in section]
        assert not missing, name


def test_file_names_and_headers_are_right() -> None:
    blocks = [block for page in _PAGES.values() for block in page.blocks("text")]
    listed = "".join(blocks)
    names = re.findall(r"^_monitoring/(\S+\.csv)$", listed, re.MULTILINE)
    assert len(names) == 2
    assert all(parse(name) is not None for name in names)
    headers = re.findall(r"^Timepoint,.*\n", listed, re.MULTILINE)
    assert headers
    assert set(headers) == {CSV_HEADER.decode()}


def test_targets_of_make_that_pages_name_exist() -> None:
    help_text = run("make", ROOT)
    targets = set(re.findall(r"make ([\w-]+)", help_text))
    for page in _PAGES.values():
        named = re.findall(r"`make ([\w-]+)", page.path.read_text())
        named += [line.split()[1] for line in page.commands() if line.startswith("make ")]
        assert set(named) <= targets, page.name


def _figures(*parts: str) -> list[str]:
    """Return the cells of a row of the benchmarks' results."""
    name, title, row = parts
    found = next(
        cells
        for table in _RESULTS[name]["tables"]
        if table["title"].startswith(title)
        for cells in table["cells"]
        if cells[0] == row
    )
    return list(found)


def _microseconds(row: str) -> str:
    (_, nanoseconds, *_) = _figures("time_block", "One block or value, compiled", row)[:2]
    return f"{int(nanoseconds) / 1000:.2f} µs"


def _of_bare(framework: str, contender: str) -> str:
    return f"{float(_figures('http_hosts', framework, contender)[6]):.2f}"


def test_the_costs_in_the_readme_are_those_of_the_benchmarks() -> None:
    contenders = ("aqltelemetry", "prometheus_client", "OpenTelemetry")
    imports = ("aqltelemetry", "prometheus_client", "opentelemetry.sdk.trace")
    blocks = ("`with time_block(...)`", "`with LABELLED.labels(...).time()`")
    rows = {row[0]: row[1:] for row in _rows("README.md")}
    (block,) = [cells for name, cells in rows.items() if "time_block" in name]
    assert block == [*map(_microseconds, blocks), _microseconds("`the same, batched for export`")]
    for framework in ("aiohttp", "FastAPI", "Flask"):
        (cells,) = [cells for name, cells in rows.items() if re.search(rf"of {framework}\b", name)]
        assert cells == [_of_bare(framework, each) for each in contenders]
    (memory,) = [cells for name, cells in rows.items() if name.startswith("memory")]
    assert memory == [
        f"{_figures('import_cost', 'Above', f'import {each}')[1]} MiB" for each in imports
    ]


@pytest.mark.parametrize("table", TABLES)
def test_the_glossary_defines_the_columns_of_the_report(table: str) -> None:
    rows = [row[:2] for row in _rows("docs/glossary.md")]
    expected = [[f"`{each.head}`", each.meaning] for each in TABLES[table]]
    assert any(rows[at : at + len(expected)] == expected for at in range(len(rows)))


def test_no_page_names_a_test() -> None:
    for name, page in _PAGES.items():
        if name != "CONTRIBUTING.md":
            assert not re.search(r"\btest_\w+", page.path.read_text()), name


def test_every_page_of_the_site_is_in_its_navigation() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        assert str(path.relative_to(ROOT / "docs")) in configuration, path.name
