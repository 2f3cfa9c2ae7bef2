"""One browser for all tests that need one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import resilience as rs
from dashboard.asking import TOKEN
from dashboard.browsing import chromium, missing, served
from resilience.dashboard import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dashboard.browsing import Browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real Chromium; without one, the tests are skipped, which the summary tells."""
    lacking = missing()
    if lacking:
        pytest.skip(f"THE PAGE IS NOT TESTED IN A BROWSER: {lacking}")
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def registry() -> rs.Registry:
    """The registry of one test."""
    return rs.Registry()


@pytest.fixture
def url(registry: rs.Registry) -> Iterator[str]:
    """A page with steering, of the registry of this test."""
    with served(app(registry, title="shop", steering=True, token=TOKEN)) as found:
        yield found
