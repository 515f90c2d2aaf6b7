"""The house: its rooms, what stands in them, and which room imports which.

`python -m tests.house` writes both into docs/architecture.md, between their marks. They are made
from the docstrings and the imports; `tests/test_docs.py` says when they are old.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("service", "monitoring", "models")
BEGIN, END = "<!-- {0}: made by `python -m tests.house` -->\n", "<!-- end of {0} -->\n"


def modules() -> dict[str, Path]:
    """Dotted name to file of every module of the three packages; a package is its `__init__`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str, known: dict[str, Path]) -> str:
    """The room that a module stands in: `models.data`, or `service` for what stands at its top."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if known[first_two].name == "__init__.py" else module.split(".")[0]


def sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split())
    end = line.find(". ")
    return (line if end < 0 else line[:end]).rstrip(".:").replace("|", "\\|")


def imports(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Our modules that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in known else node.module


def arrows() -> dict[str, set[str]]:
    """Each room with the rooms that it imports."""
    known = modules()
    found: dict[str, set[str]] = {room_of(module, known): set() for module in known}
    for module, path in known.items():
        here = room_of(module, known)
        found[here].update(room_of(other, known) for other in imports(module, path, known))
        found[here].discard(here)
    return found


def thinned(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that follow from two others. The graph has no circle."""

    def reach(room: str) -> set[str]:
        return graph[room].union(*(reach(other) for other in graph[room]))

    return {
        room: {other for other in others if not any(other in reach(o) for o in others - {other})}
        for room, others in graph.items()
    }


def picture() -> str:
    """The rooms and their arrows for Mermaid, which GitHub draws."""
    graph = {room: others for room, others in arrows().items() if room.count(".")}
    graph = {room: {other for other in others if other in graph} for room, others in graph.items()}
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        inside = sorted(room for room in graph if room.startswith(f"{package}."))
        names = [f'    {room}["{room.split(".")[1]}"]' for room in inside]
        lines += [f"  subgraph {package}", *names, "  end"]
    thin = thinned(graph)
    lines += [f"  {room} --> {other}" for room in sorted(thin) for other in sorted(thin[room])]
    return "\n".join([*lines, "```", ""])


def table() -> str:
    """Every room with its sentence, and every file in it with the first sentence of its own."""
    known, lines = modules(), []
    rooms = {module: path for module, path in known.items() if path.name == "__init__.py"}
    for room in sorted(rooms, key=lambda name: (PACKAGES.index(name.split(".")[0]), name)):
        files = [
            path
            for path in known.values()
            if path.parent == rooms[room].parent and path.name != "__init__.py"
        ]
        lines.append(f"\n**`{room.replace('.', '/')}/`**: {sentence(rooms[room])}.\n")
        if files:
            lines += ["", "| file | duty |", "|---|---|"]
            lines += [f"| `{path.relative_to(ROOT)}` | {sentence(path)} |" for path in files]
    return "\n".join([*lines, ""])


PARTS = {"the picture of the rooms": picture, "the table of files": table}


def page() -> str:
    """docs/architecture.md as it must be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, make in PARTS.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = before + begin + make() + end + after
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
