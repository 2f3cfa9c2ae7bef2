"""YAML of mappings, lists, strings and numbers: enough for files that other programs read.

It writes no tags, anchors or comments, and reads nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Node", "dump"]

Node: TypeAlias = "Mapping[str, Node] | Sequence[Node] | str | int | float"

# Words that no version of YAML takes for anything else, such as a truth or nothing.
_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)$)[A-Za-z]\w*", re.IGNORECASE | re.ASCII)
# Lines that a block can hold as they are; the first may not begin with a space, and none may be lost at the end.
_LINES = re.compile(r"[!-~][ -~]*\n[ -~\n]*[!-~]")


def dump(node: Mapping[str, Node]) -> str:
    """A mapping as YAML, with a final line break. Strings of several lines become blocks."""
    return "\n".join(_lines(node)) + "\n"


def _lines(node: Node) -> Iterator[str]:
    """A node at the margin. That of a block begins with its mark, that of anything else with its first line."""
    if isinstance(node, str):
        if _LINES.fullmatch(node):
            yield "|-"
            yield from node.split("\n")
        else:
            yield _word(node)
    elif isinstance(node, Mapping) and node:
        for key, value in node.items():
            first, *rest = _lines(value)
            nested = isinstance(value, (Mapping, Sequence)) and not isinstance(value, str) and value
            yield f"{_word(key)}:" if nested else f"{_word(key)}: {first}"
            yield from _inside([first, *rest] if nested else rest)
    elif isinstance(node, Sequence) and node:
        for value in node:
            first, *rest = _lines(value)
            yield f"- {first}"
            yield from _inside(rest)
    else:
        yield json.dumps(node)


def _word(text: str) -> str:
    """A string in one line. What is quoted YAML reads as JSON does, but for characters that JSON writes as two."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(char if char > "\uffff" else json.dumps(char)[1:-1] for char in text) + '"'


def _inside(lines: list[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)
