"""Settings of all tests."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# The plugin comes with the installed package; without an installation, from the path.
if not any(point.value == "resilience.pytest_plugin" for point in entry_points(group="pytest11")):
    pytest_plugins = ["resilience.pytest_plugin"]
