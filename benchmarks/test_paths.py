"""Every happy path, for reading: ``make bench``."""

from __future__ import annotations

from typing import Any

import pytest

from paths import PATHS


@pytest.mark.parametrize("name", PATHS)
def test_happy_path(benchmark: Any, name: str) -> None:
    """One successful call."""
    benchmark.group = "happy path, sync"
    benchmark(PATHS[name])
