"""Fixtures for test suites of programs that use this library. Installed with it; nothing to configure.

* ``virtual_clock``: a `resilience.testing.VirtualClock` below every policy.
* ``no_waiting``: nothing waits. For a whole suite: ``pytestmark = pytest.mark.usefixtures("no_waiting")``, or
  ``resilience_no_waiting = true`` in the pytest configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .testing import JumpingClock, VirtualClock


def pytest_addoption(parser: pytest.Parser) -> None:
    """One setting: never wait, in any test."""
    parser.addini("resilience_no_waiting", "policies of resilience never wait", "bool", default=False)


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Every policy takes its time from this clock, during this test."""
    from . import testing

    with testing.virtual_clock() as clock:
        yield clock


@pytest.fixture
def no_waiting() -> Iterator[JumpingClock]:
    """No policy waits during this test: time jumps instead."""
    from . import testing

    with testing.no_waiting() as clock:
        yield clock


@pytest.fixture(autouse=True)
def _resilience_never_waits(request: pytest.FixtureRequest) -> None:
    if request.config.getini("resilience_no_waiting") and "virtual_clock" not in request.fixturenames:
        request.getfixturevalue("no_waiting")
