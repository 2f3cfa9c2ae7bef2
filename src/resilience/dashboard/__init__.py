"""A live page of every policy: what it does, how it fares, and what happened last. Nothing outside it is needed.

`app` makes it, to be mounted in a web application of your own (WSGI or ASGI) or served by ``resilience dashboard``.
`snapshot` is the data alone. Nothing is read unless somebody looks.
"""

from __future__ import annotations

from .data import snapshot
from .site import Dashboard, app

__all__ = ["Dashboard", "app", "snapshot"]
