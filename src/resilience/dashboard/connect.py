"""Another process's page, seen from here: its data is fetched by this process, when somebody looks.

Read-only, whatever the other one allows: acts are done where their token belongs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from ..errors import ConfigError
from .data import VERSION
from .site import Dashboard, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["remote"]

_PATIENCE = 5.0
_MOST = 64 << 20


def remote(url: str, *, title: str | None = None, hosts: frozenset[str] | None = None) -> Dashboard:
    """The page of the process that has its own at *url*.

    Raises:
        ConfigError: *url* is no address of a page.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"url must be an http or https address, not {url!r}")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/data"

    def source(settings: Collection[str]) -> dict[str, Any]:
        return _fetch(f"{base}?{urlencode([('settings', name) for name in settings])}", url)

    return Dashboard(source, title=title or parts.netloc, hosts=hosts)


def _fetch(address: str, url: str) -> dict[str, Any]:
    try:
        with urlopen(Request(address, headers={"Accept": "application/json"}), timeout=_PATIENCE) as answer:  # noqa: S310 - http(s) by the check above
            data = json.loads(answer.read(_MOST))
    except HTTPError as error:
        raise UnavailableError(f"{url} answers {error.code} {error.reason}") from error
    except URLError as error:
        raise UnavailableError(f"{url} does not answer: {error.reason}") from error
    except OSError as error:
        raise UnavailableError(f"{url} does not answer: {error}") from error
    except ValueError as error:
        raise UnavailableError(f"what {url} answers is not the data of a page") from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise UnavailableError(f"what {url} answers is not the data of a page of this version")
    return data
