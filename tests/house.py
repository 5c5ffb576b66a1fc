"""The map of the package: its rooms, what each may import, and what each does import.

Run it to see the map: `python tests/house.py [FOLDER OF A PACKAGE]`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

SHARED = "shared"
_MAY_IMPORT = "May import:"
Graph = Mapping[str, set[str]]


class House:
    """The modules of a package by their dotted names, and the rooms that they are in.

    A room is a folder of the package with all that is in it. Of the modules at the
    top level, those that import no room are a room too, which every room may import; each of
    the others is a door, by which users come to a room.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {
            ".".join(path.relative_to(root).with_suffix("").parts): path
            for path in sorted(root.rglob("*.py"))
        }

    @cached_property
    def imports(self) -> Graph:
        """What each module imports of the package, also inside of functions."""
        return {name: set(self._imports(name)) - {name} for name in self.modules}

    @cached_property
    def rooms(self) -> dict[str, list[str]]:
        """The modules of each room."""
        rooms: dict[str, list[str]] = {}
        for name in self.modules:
            rooms.setdefault(self.room(name), []).append(name)
        return rooms

    def room(self, module: str) -> str:
        """Return the room that a module is in."""
        folder, _, rest = module.partition(".")
        if rest:
            return folder
        return module if self._reaches_a_room(module) else SHARED

    @cached_property
    def doors(self) -> list[str]:
        """The modules by which users come to a room."""
        return [name for name in self.modules if self.room(name) == name]

    def _reaches_a_room(self, module: str) -> bool:
        imported = self.imports[module]
        return any("." in name or self._reaches_a_room(name) for name in imported)

    @cached_property
    def room_imports(self) -> Graph:
        """What each room imports of other rooms."""
        return {
            room: {self.room(name) for module in modules for name in self.imports[module]} - {room}
            for room, modules in self.rooms.items()
        }

    def docstring(self, room: str) -> str:
        """Return what a folder says of itself."""
        path = self.root / room / "__init__.py"
        return (ast.get_docstring(ast.parse(path.read_text())) or "") if path.exists() else ""

    def may_import(self, room: str) -> set[str]:
        """Return the rooms that a folder says it may import."""
        _, stated, names = " ".join(self.docstring(room).split()).partition(_MAY_IMPORT)
        if not stated or names.strip() == "nothing.":
            return set()
        return {name.strip() for name in names.strip().rstrip(".").split(",")}

    def _imports(self, module: str) -> Iterator[str]:
        package = f"{self.root.name}."
        for node in ast.walk(ast.parse(self.modules[module].read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                names.append(node.module)
            for name in names:
                if name.startswith(package):
                    inner = name.removeprefix(package)
                    yield from (
                        each for each in (inner, f"{inner}.__init__") if each in self.modules
                    )


def cycles(graph: Graph) -> list[set[str]]:
    """Return the groups of nodes that reach one another."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {
        frozenset(other for other in reached[node] if node in reached[other])
        for node in graph
        if node in reached[node]
    }
    return [set(group) for group in groups]


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for node in graph[waiting.pop()] - found:
            found.add(node)
            waiting.append(node)
    return found


def longest_way(graph: Graph) -> list[str]:
    """Return the longest way of imports from one module to another; for no cycles only."""
    longest: dict[str, list[str]] = {}

    def way(node: str) -> list[str]:
        if node not in longest:
            longest[node] = [node, *max((way(each) for each in graph[node]), key=len, default=[])]
        return longest[node]

    return max((way(node) for node in graph), key=len)


def order(house: House) -> list[str]:
    """Return the folders from the ground up, each above those that it may import."""
    stated = {room: house.may_import(room) for room in (*house.rooms, *house.doors)}

    def floor(room: str) -> int:
        return 1 + max((floor(each) for each in stated[room]), default=0)

    folders = [room for room in house.rooms if room not in (SHARED, *house.doors)]
    return sorted(folders, key=lambda room: (floor(room), room))


def table(house: House) -> Iterator[str]:
    """Yield what each room is for, from the ground up, as lines of a Markdown table."""
    yield "| Room | What it is for | May import |"
    yield "|---|---|---|"
    names = ", ".join(f"`{name}`" for name in house.rooms[SHARED])
    yield f"| shared by all rooms | {names} | each other |"
    rooms = order(house)
    for room in rooms:
        summary = house.docstring(room).split("\n\n")[0].replace("\n", " ")
        stated = [each for each in (*rooms, *house.doors) if each in house.may_import(room)]
        names = ", ".join(f"`{name}`" for name in stated)
        yield f"| `{room}/` | {summary} | {names or 'nothing'} |"
    names = ", ".join(f"`{name}`" for name in house.doors)
    yield f"| for users | {names} | the room behind each |"


def figures(house: House) -> Iterator[str]:
    """Yield what the shape of the package comes to, one figure a line."""
    top = [name for name in house.modules if "." not in name]
    folders = {path.parent for path in house.modules.values()} - {house.root}
    largest = max(folders, key=lambda folder: len([*folder.glob("*.py")]))
    pairs = {
        frozenset((room, other))
        for room, imported in house.room_imports.items()
        for other in imported
        if room in house.room_imports[other]
    }
    yield f"modules: {len(house.modules)}, of which {len(top)} lie at the top level"
    count = len([*largest.glob("*.py")])
    yield f"folders: {len(folders)}, the largest with {count} files ({largest.name})"
    yield f"rooms that import each other: {len(pairs)} pairs"
    yield f"cycles of modules: {len(cycles(house.imports))}"
    if not cycles(house.imports):
        way = longest_way(house.imports)
        yield f"longest way of imports: {len(way)} modules ({' > '.join(way)})"


if __name__ == "__main__":
    shown = House(Path(sys.argv[1] if len(sys.argv) > 1 else "aqltelemetry"))
    lines = [*table(shown), "", *figures(shown)]
    sys.stdout.write("\n".join(lines) + "\n")
