"""Reads lines of CloudWatch's embedded metric format as CloudWatch does: what it would refuse fails."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

__all__ = ["documents", "totals"]

SCHEMA = json.loads((Path(__file__).parent / "emf-schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MEGABYTE = 1_000_000


def documents(out: io.StringIO) -> list[dict[str, Any]]:
    """The lines written, each checked against the schema and all that the specification says beside it."""
    found = []
    for line in out.getvalue().splitlines():
        assert len(line.encode()) <= MEGABYTE and line.isascii()
        document = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        VALIDATOR.validate(document)
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        assert 1 <= len(directive["Metrics"]) <= 100
        for dimensions in directive["Dimensions"]:
            for name in dimensions:
                assert isinstance(document[name], str) and 1 <= len(document[name]) <= 1024
        targets = {metric["Name"] for metric in directive["Metrics"]}
        assert len(targets) == len(directive["Metrics"])
        for name in targets:
            values = document[name] if isinstance(document[name], list) else [document[name]]
            assert 1 <= len(values) <= 100
            assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
        assert document.keys() == {"_aws", *directive["Dimensions"][0], *targets}, "nothing that nobody refers to"
        found.append(document)
    out.seek(0)
    out.truncate()
    return found


def totals(found: list[dict[str, Any]]) -> Counter[str]:
    """The sum of each metric; of durations, how many."""
    sums: Counter[str] = Counter()
    for document in found:
        for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = document[metric["Name"]]
            sums[metric["Name"]] += len(value) if isinstance(value, list) else value
    return sums
