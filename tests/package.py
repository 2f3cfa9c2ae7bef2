"""Install each built distribution into an environment of its own, and use it there: ``package.py FILE...``."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

USE = """
import asyncio, importlib.metadata, pathlib, sys
import resilience as rs

@rs.retry(on=ConnectionError, backoff=0.0)
def flaky(failures=[ConnectionError(), ConnectionError()]):
    if failures:
        raise failures.pop()
    return rs.current_attempt()

assert flaky() == 3
assert "site-packages" in rs.__file__, rs.__file__
assert (pathlib.Path(rs.__file__).parent / "py.typed").exists()
assert importlib.metadata.version("resilience-client") == rs.__version__
assert [p for p in importlib.metadata.requires("resilience-client") if "extra ==" not in p] == []
"""


def names(distribution: Path) -> list[str]:
    """The files in a wheel or sdist."""
    if distribution.suffix == ".whl":
        return zipfile.ZipFile(distribution).namelist()
    with tarfile.open(distribution) as archive:
        return archive.getnames()


def check(distribution: Path) -> None:
    """Install, use, and look at what is inside."""
    inside = names(distribution)
    assert any(name.endswith("resilience/py.typed") for name in inside), "no type marker"
    if distribution.suffix == ".whl":
        stray = [name for name in inside if not name.startswith(("resilience/", "resilience_client-"))]
        assert not stray, f"does not belong into the wheel: {stray[:5]}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / "bin" / "python"
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, distribution], check=True)
        subprocess.run([python, "-W", "error", "-c", USE], check=True, cwd=folder)
        command = subprocess.run([Path(folder) / "bin" / "resilience", "version"], check=True, capture_output=True)
        assert command.stdout.startswith(b"resilience-client ")
    print(f"{distribution.name} installs clean and works")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        check(Path(argument))
