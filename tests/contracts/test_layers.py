"""Who may import whom. This one test keeps the library simulatable, and its core free of dependencies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resilience

ROOT = Path(resilience.__file__).parent

# Each module or package, and the ones of the library it may import; "policies" stands for all of its modules. Imports
# for type checkers do not count. What is imported inside a function to break a cycle is named here too, in LAZY.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "_checks": {"errors"},
    "clock": set(),
    "_hooks": set(),
    "events": set(),
    "_listen": {"_hooks", "events"},
    "_stats": {"errors", "machines"},
    "machines": {"_checks", "errors", "machines"},
    "backoff": {"_checks", "errors"},
    "_retry_after": set(),
    "_scope": {"_checks", "clock", "errors"},
    "_workers": set(),
    "_attend": {"_checks"},
    "_runtime": {"_attend", "_workers", "errors"},
    "_part": {"_checks", "clock", "errors"},
    "policies": {
        "_checks", "_hooks", "_listen", "_part", "_retry_after", "_runtime", "_scope", "_workers", "backoff", "clock",
        "errors", "events", "machines", "policies", "stores",
    },
    "stores": {"_checks", "_hooks", "_listen", "_workers", "clock", "errors", "events", "machines", "stores"},
    "_plan": {"_checks", "_listen", "_scope", "_stats", "events"},
    "_story": {"_checks", "_listen", "_scope", "errors", "events", "machines"},
    "_guard": {"_listen", "_runtime", "_scope", "_story", "errors"},
    "_fast": {"_listen", "_runtime", "_scope", "_story", "policies"},
    "_lint": {"errors"},
    "_override": {"_checks", "_part", "_plan", "_scope", "clock", "errors", "policies"},
    "_registry": {"errors"},
    "policy": {
        "_checks", "_fast", "_guard", "_lint", "_override", "_part", "_plan", "_registry", "_runtime", "_scope",
        "_stats", "_story", "clock", "errors", "policies",
    },
    "aws": {
        "_checks", "_hooks", "_listen", "_part", "_plan", "_registry", "_retry_after", "_runtime", "_scope", "_stats",
        "_story", "aws", "backoff", "clock", "errors", "events", "machines", "policies", "policy",
    },
    "telemetry": {
        "_checks", "_fast", "_hooks", "_listen", "_plan", "_registry", "_stats", "clock", "errors", "events",
        "machines", "policies", "telemetry",
    },
    "dashboard": {
        "__version__", "_checks", "_hooks", "_listen", "_part", "_registry", "backoff", "clock", "dashboard", "errors",
        "events", "machines", "policies", "policy", "telemetry", "tune",
    },
    "testing": {"_checks", "_listen", "clock", "events"},
    "pytest_plugin": set(),
    "tune": {"machines", "tune"},
}  # fmt: skip
LAZY = {"_part": {"policy"}, "pytest_plugin": {"testing"}, "__main__": {"demo", "stores", "tune", "__init__"}}

IMPURE = {"asyncio", "contextvars", "logging", "os", "queue", "random", "select", "socket", "threading", "time"}
PURE = ("machines", "backoff", "_retry_after", "_story", "_plan", "_lint")
THIRD_PARTY_ALLOWED = ("aws", "demo", "pytest_plugin", "stores", "telemetry")


def layer(path: Path) -> str:
    """The name in the table that a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, bool]]:
    """What a file imports, as absolute names, and whether inside a function; without imports for type checkers."""
    package = ["resilience", *path.relative_to(ROOT).parts[:-1]]
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ".".join(package[: len(package) - child.level + 1] if child.level else [])
                name = ".".join(filter(None, [base, child.module]))
                if child.module is None:
                    found.extend((f"{name}.{alias.name}", inside) for alias in child.names)
                else:
                    found.append((name, inside))
            visit(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    visit(ast.parse(path.read_text()), inside=False)
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    """Every import of the library's own modules is in the table; modules without an entry are the outermost."""
    mine = layer(path)
    if mine not in LAYERS:
        assert mine in {"__init__", "__main__", "demo"}, f"give {mine} a place in LAYERS"
        return
    allowed, lazy = LAYERS[mine], LAZY.get(mine, set())
    for name, inside in imports(path):
        if not name.startswith("resilience."):
            continue
        other = name.split(".")[1]
        assert other in allowed or (inside and other in lazy), f"{mine} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_files_know_no_clock_lock_randomness_or_io(path: Path) -> None:
    """The machines and the story are handed time and chance."""
    if layer(path) not in PURE or path.name == "_plan.py":
        return
    roots = {name.split(".")[0] for name, _ in imports(path)}
    assert not roots & IMPURE, f"{path.name} imports {sorted(roots & IMPURE)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_edges_import_third_parties(path: Path) -> None:
    """The core imports the standard library and itself."""
    if layer(path) in THIRD_PARTY_ALLOWED:
        return
    for name, _ in imports(path):
        root = name.split(".")[0]
        assert root == "resilience" or root in sys.stdlib_module_names, f"{path.name} imports {root}"


def test_the_layers_have_no_cycle() -> None:
    """The table can be put in an order in which each layer imports only earlier ones (itself apart)."""
    rest = {name: allowed - {name} for name, allowed in LAYERS.items()}
    while rest:
        free = [name for name, allowed in rest.items() if not allowed & rest.keys()]
        assert free, f"a cycle among {sorted(rest)}"
        for name in free:
            del rest[name]


def test_importing_the_library_loads_only_the_standard_library() -> None:
    """Nothing needs to be installed for `import resilience`, and asyncio is not loaded for those who do not use it."""
    code = "import sys, resilience; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env={
        "PYTHONPATH": str(ROOT.parent)}).stdout.split()  # fmt: skip
    outside = {name for name in out if name not in sys.stdlib_module_names} - {"resilience", "__main__", "__mp_main__"}
    assert outside == set()
    assert "asyncio" not in out
