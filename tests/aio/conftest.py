"""Real servers for the tests of asynchronous AWS clients.

This folder runs in an environment of its own, for aiobotocore asks for a botocore of its own; ``test_aioboto3.py`` in
one more, for aioboto3 asks for an aiobotocore of its own.
"""

from __future__ import annotations

import pytest

from aws.certificates import Certificate
from aws.conftest import moto

__all__ = ["certificate", "moto"]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For loopback, signed by itself."""
    return Certificate.made(tmp_path_factory.mktemp("tls"))
