"""The code in the documentation runs.

The blocks of one page run in order, in one namespace, in virtual time. ``await`` may stand at the top level. A block
marked ``python no-run`` is only compiled. A last line that ends in ``# raises SomeError`` must raise that.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import resilience
from resilience._listen import LISTENERS
from resilience.testing import VirtualClock, virtual_clock

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str, str]]:
    """Line, marks and code of each block in a language."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        info = match["info"].split()
        if info and info[0] == language:
            line = text.count("\n", 0, match.start("code")) + 1
            indent = len(match["indent"])
            code = "\n".join(part[indent:] for part in match["code"].split("\n"))
            found.append((line, " ".join(info[1:]), code))
    return found


def run_block(page: Path, line: int, code: str, space: dict[str, Any], clock: VirtualClock) -> None:
    """Run one block, so that errors name the page and the line in it."""
    padded = "\n" * (line - 1) + code
    compiled = compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    expected = re.search(r"# raises (\w+)\s*$", code.rstrip())
    try:
        outcome = eval(compiled, space)
        if inspect.iscoroutine(outcome):
            clock.run(outcome)
    except Exception as error:
        if expected is None or expected[1] not in {kind.__name__ for kind in type(error).__mro__}:
            raise
    else:
        assert expected is None, f"{page}:{line}: should raise {expected[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block does what the page says, without waiting in real time."""
    space: dict[str, Any] = {"__name__": page.stem}
    with virtual_clock() as clock, warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(asyncio, "run", clock.run)  # pages call it as their readers would
        try:
            for line, marks, code in blocks(page, "python"):
                if "no-run" in marks:
                    compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                else:
                    run_block(page, line, code, space, clock)
        finally:
            for name in list(resilience.registry):
                resilience.registry.remove(name)
            LISTENERS.clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_make_commands_of_a_page_exist(page: Path) -> None:
    """Whoever types a command from the documentation finds it in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for _, _, code in blocks(page, "sh") for name in re.findall(r"\bmake ([a-z]+)", code)}
    named |= set(re.findall(r"`make ([a-z]+)`", page.read_text()))
    assert named <= targets


def test_the_readme_has_code() -> None:
    """The checks above look at something."""
    assert len(blocks(ROOT / "README.md", "python")) >= 2
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 10
