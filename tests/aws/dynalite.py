"""dynalite, another DynamoDB than moto's, in a process of its own. `make test` installs it where npm is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
const server = require('dynalite')({createTableMs: 0, deleteTableMs: 0})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.resume().on('end', () => process.exit())
"""


def home() -> Path | None:
    """Where it is installed: in this environment, or in the one that this one is in."""
    found = (Path(prefix) / "node" for prefix in (sys.prefix, Path(sys.prefix).parent))
    return next((path for path in found if (path / "node_modules" / "dynalite").exists()), None)


@contextmanager
def running() -> Iterator[str]:
    """Its address. It ends when this process does, however that ends, as its standard input is closed then."""
    node, place = shutil.which("node"), home()
    assert node is not None and place is not None
    child = subprocess.Popen([node, "-e", SCRIPT], cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.stdin.close()
        child.wait(10.0)
        child.stdout.close()
