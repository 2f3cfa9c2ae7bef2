"""The pictures in the documentation against the source: layers, breaker states, order of a call.

Knows how the page ``docs/explanation/architecture.md`` is written: a Mermaid flowchart of groups, a
table that says which modules belong to which group, a Mermaid state diagram, a numbered list. Does
not judge what the layers should be; it holds page and source to each other.
"""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from resilience._plan import PARTS
from resilience.machines.circuit_types import diagram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "resilience"
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")

UPWARD = {("_part", "policy")}
"""The one import that goes up, inside a function; the page names it."""

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module by its name below ``resilience``; the package itself is ``""``."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that happen at run time, in functions too; none that are for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from statements(other)
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        else:
            yield from statements(child)


def targets(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules of this package that the module *name* imports."""
    package = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            absolute = [alias.name for alias in statement.names]
            yield from (n.partition(".")[2] for n in absolute if n.split(".")[0] == "resilience")
            continue
        base = statement.module.split(".") if statement.module else []
        if statement.level:
            base = package[: len(package) - statement.level + 1] + base
        elif base[:1] == ["resilience"]:
            base = base[1:]
        else:
            continue
        for alias in statement.names:
            full = ".".join([*base, alias.name])
            yield full if full in known else ".".join(base)


def group_table() -> dict[str, list[str]]:
    """Group to modules, from the table of the page."""
    rows = re.findall(r"^\| (\w+) \| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    return {group: re.findall(r"`(\w+)`", names) for group, names in rows}


def group_of(module: str) -> str:
    """The group of a module: that of its first part; ``__init__`` stands for the package itself."""
    first = module.partition(".")[0] or "__init__"
    found = [group for group, names in group_table().items() if first in names]
    assert len(found) == 1, f"{module or '__init__'} is in the groups {found}, not in exactly one"
    return found[0]


def real_graph() -> Graph:
    """Which group imports which, read off the source."""
    known = modules()
    graph: Graph = {group: set() for group in group_table()}
    for name, path in known.items():
        for target in targets(name, path, known):
            if (name, target) not in UPWARD:
                graph[group_of(name)].add(group_of(target))
    return {group: below - {group} for group, below in graph.items()}


def reach(graph: Graph, start: str) -> set[str]:
    """Everything below *start*."""
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        group = todo.pop()
        if group not in seen:
            seen.add(group)
            todo += graph[group]
    return seen


def reduced(graph: Graph) -> set[tuple[str, str]]:
    """The arrows that do not follow from others (of a graph without cycles)."""
    return {
        (above, below)
        for above, direct in graph.items()
        for below in direct
        if not any(below in reach(graph, other) for other in direct - {below})
    }


def drawing(kind: str) -> str:
    """The Mermaid block that begins with *kind*."""
    (block,) = re.findall(rf"^```mermaid\n({kind}.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


def test_every_module_is_in_exactly_one_group() -> None:
    """A new module must be given a place in the architecture."""
    known = modules()
    for module in known:
        group_of(module)
    tops = {name.partition(".")[0] or "__init__" for name in known}
    named = {name for names in group_table().values() for name in names}
    assert named <= tops, f"the page names modules that do not exist: {sorted(named - tops)}"


def test_layers_have_no_cycle() -> None:
    """No group imports what stands above it."""
    list(TopologicalSorter(real_graph()).static_order())  # raises CycleError


def test_layer_diagram_is_true() -> None:
    """The arrows of the page are the imports of the source, less those that follow from others."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing("flowchart"), re.MULTILINE))
    assert drawn == reduced(real_graph())


def test_the_import_that_goes_up_exists_and_is_named() -> None:
    """The exception on the page is no dead letter."""
    known = modules()
    for module, target in UPWARD:
        assert target in set(targets(module, known[module], known))
        assert f"`{module}` imports `{target}`" in PAGE


def test_breaker_diagram_is_true() -> None:
    """The page shows the state table that the breaker runs by."""
    assert drawing("stateDiagram-v2").strip() == diagram().strip()


def test_order_of_a_call_is_true() -> None:
    """The lists of the parts are in the order in which a call meets them."""
    compose = (ROOT / "docs" / "how-to" / "compose.md").read_text(encoding="utf-8")
    section = PAGE.split("## The order of a call")[1].split("\n## ")[0]
    for text in (section, compose):
        assert tuple(re.findall(r"^\d+\. \*\*(\w+)\*\*", text, re.MULTILINE)) == PARTS


def test_reduction_drops_only_what_follows() -> None:
    """The comparison itself: an arrow is left out only if another path says the same."""
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert reduced(graph) == {("a", "b"), ("b", "c")}
    assert reduced({"a": {"b", "c"}, "b": set(), "c": set()}) == {("a", "b"), ("a", "c")}
