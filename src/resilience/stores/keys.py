"""Names of what is stored, made of what users hand in: nothing in a part can break out of its place.

A key is the parts with ``/`` between them, each part percent-encoded, so two different lists of parts never make the
same key, and no part brings a brace (Redis Cluster's hash tag), a colon or a space. A long key becomes its digest.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import quote

from .._checks import text
from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["SAFE", "check_prefix", "safe_key"]

SAFE = re.compile(r"[A-Za-z0-9_.~%/-]{1,200}", re.ASCII)
"""What a key looks like."""


def safe_key(*parts: Hashable) -> str:
    """One key of these parts: text, whole numbers, bytes, truth values, ``None``, tuples of them; by type and value.

    Raises:
        TypeError: a part of another type; what it is called may differ from process to process.
    """
    key = "/".join(map(_encoded, parts))
    # No encoded part can begin with "%-": after a percent sign come two hexadecimal digits, or one of "inpqtyz".
    return key if len(key) <= 200 else "%-" + blake2b(key.encode(), digest_size=32).hexdigest()


def check_prefix(prefix: str) -> str:
    """What all keys of a store begin with.

    Raises:
        TypeError, ConfigError: it is not of letters, digits, ``_``, ``.`` and ``-``.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text("prefix", prefix), re.ASCII):
        raise ConfigError(f"prefix must be of letters, digits, '_', '.' and '-', not {prefix!r}")
    return prefix


def _encoded(part: Hashable) -> str:
    if isinstance(part, str):
        return quote(part, safe="", errors="surrogatepass") or "%t"
    if part is None or isinstance(part, bool):
        return f"%n{part}"
    if isinstance(part, int):
        return f"%i{int(part)}"
    if isinstance(part, bytes):
        return "%y" + part.hex()
    if isinstance(part, tuple):
        return "%p" + "".join(_encoded(item) + "%z" for item in part) + "%q"
    raise TypeError(f"a key shared between processes must be text, a whole number, bytes or a tuple, not {part!r}")
