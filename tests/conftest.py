"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# The plugin comes with the installed package; without an installation, from the path.
if not any(point.value == "resilience.pytest_plugin" for point in entry_points(group="pytest11")):
    pytest_plugins = ["resilience.pytest_plugin"]


@pytest.fixture(scope="module", autouse=True)
def _only_its_own_garbage() -> None:
    """Tests that collect garbage need not look through all that others have loaded, which takes a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Let threads interrupt each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
