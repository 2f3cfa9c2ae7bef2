from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.telemetry._yaml import Node, dump

# It comes with moto, which the tests need anyway.
yaml = pytest.importorskip("yaml", reason="NOT TESTED: PyYAML is not installed")

WORDS = ["yes", "No", "null", "y", "1e3", "0x1f", "2026-01-01", "~", "a\n b\n", " a\nb", "a\n\n  b", "\U0001f642"]
TEXT = st.text() | st.text("ab {}[]:#|-'\"\\\n~1&*?,>") | st.sampled_from(WORDS)
NODES: st.SearchStrategy[Node] = st.recursive(
    TEXT | st.integers() | st.integers(-99, 99).map(lambda eighths: eighths / 8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_ :", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(NODES)
def test_what_is_written_is_read(node: Node) -> None:
    """Another program gets the same mappings, lists, strings and numbers, whatever the strings hold."""
    assert yaml.load(dump({"it": node}), yaml.SafeLoader) == {"it": node}


def test_it_is_written_for_people() -> None:
    """Words are bare, lines are lines, and what is inside something is further to the right."""
    node: dict[str, Node] = {
        "groups": [{"name": "a", "rules": [{"expr": "x\n  > 1", "for": "5m"}]}, {"name": "b", "rules": []}]
    }
    assert dump(node) == (
        'groups:\n  - name: a\n    rules:\n      - expr: |-\n          x\n            > 1\n        for: "5m"\n'
        "  - name: b\n    rules: []\n"
    )
