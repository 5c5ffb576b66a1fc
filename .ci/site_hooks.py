"""Hooks of mkdocs: pages of the site that are outside of docs/, and links to them.

On GitHub, a page links to `../benchmarks/README.md`. The site has such files below `project/`, and
the README as its home page. A link to any other file outside of docs/ becomes plain text.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "benchmarks/results.svg",
    *(f"dashboards/{name}" for name in ("prometheus.json", "postgresql.json", "clickhouse.json")),
    "dashboards/alerts.yml",
    "examples/README.md",
    *(
        f"examples/{name}/README.md"
        for name in ("aiohttp", "django", "fastapi", "flask", "incident", "starlette")
    ),
)
_HOME = "index.md"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside of docs/."""
    for name in ("README.md", *_PAGES):
        path = os.path.join(_ROOT, name)
        if os.path.exists(path):
            files.append(File.generated(config, _on_site(name) or name, abs_src_path=path))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links lead to where the site has their targets."""
    here = page.file.src_uri

    def changed(link: re.Match[str]) -> str:
        mark, text, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        path, _, anchor = target.partition("#")
        folder = posixpath.dirname(_in_project(here))
        found = _on_site(posixpath.normpath(posixpath.join(folder, path)))
        if found is None:
            return text
        relative = posixpath.relpath(found, posixpath.dirname(here) or ".")
        return f"{mark}[{text}]({relative}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(changed, markdown) + _programs(_in_project(here))


def _programs(page: str) -> str:
    """Return the programs next to an example's page, as a part of it."""
    folder = os.path.join(_ROOT, os.path.dirname(page))
    if not page.startswith("examples/"):
        return ""
    parts = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                parts.append(f"\n## {name}\n\n```python\n{file.read()}```\n")
    return "".join(parts)


def _in_project(source: str) -> str:
    """Return where a page of the site is in the project."""
    prefix = "project/"
    if source == _HOME:
        return "README.md"
    return source.removeprefix(prefix) if source.startswith(prefix) else f"docs/{source}"


def _on_site(path: str) -> str | None:
    """Return where a file of the project is on the site, or None."""
    if path == "README.md":
        return _HOME
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    for name in (path, f"{path}/README.md"):
        if name in _PAGES:
            return f"project/{name}"
    return None
