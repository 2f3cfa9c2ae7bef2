"""What tests of telemetry share: a real Prometheus server."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from telemetry.servers import Prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts servers that are stopped in the end: ``prometheus(["127.0.0.1:8000"], rules=[file])``.

    See `telemetry.servers.Prometheus`. Skips the test, loudly, where Prometheus is not installed.
    """
    with ExitStack() as stack:

        def start(targets: list[str], **settings: Any) -> Prometheus:
            directory = tmp_path / f"prometheus-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            return stack.enter_context(Prometheus(directory, targets, **settings))

        yield start
