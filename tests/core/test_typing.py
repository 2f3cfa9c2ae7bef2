"""What type checkers see: decorated functions keep their signatures. mypy reads this file; running it does the rest."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import resilience as rs

policy = rs.Policy(retry=rs.Retry(on=ConnectionError))


@policy
def plain(a: int, b: str = "x", *, c: float = 1.0) -> list[int]:
    """A function of fixed arity."""
    return [a, len(b), int(c)]


@rs.retry(on=ConnectionError)
async def coroutine(a: int) -> str:
    """A coroutine function."""
    return str(a)


class Shop:
    """Methods are bound as ever."""

    @policy
    def sell(self, n: int) -> int:
        """A method."""
        return n

    @rs.bulkhead(3)
    async def order(self, what: str) -> bytes:
        """A coroutine method."""
        return what.encode()


def test_types_are_kept() -> None:
    """Arguments and results of functions, methods, and of `call`; sync and async."""
    assert_type(plain(1, "y", c=2.0), list[int])
    assert_type(Shop().sell(3), int)
    assert_type(coroutine(1).close(), None)
    returned: Callable[[int], Coroutine[Any, Any, str]] = coroutine
    assert returned is coroutine
    assert_type(policy.call(plain, 1, c=2.0), list[int])
    assert_type(policy.call(Shop().sell, 2), int)
    with policy.replace(retry=None) as attempt:
        assert_type(attempt.timeout, float | None)
    for each in rs.Retry(on=ConnectionError):
        with each:
            assert_type(each.number, int)


async def awaits() -> None:
    """Checked, not run."""
    assert_type(await coroutine(1), str)
    assert_type(await Shop().order("lamp"), bytes)
    assert_type(await policy.acall(coroutine, 1), str)


def wrong() -> None:
    """What a type checker must refuse; an unused ignore is an error."""
    plain("no")  # type: ignore[arg-type]
    plain(1, d=2)  # type: ignore[call-arg]
    policy.call(plain, "no")  # type: ignore[arg-type]
    Shop().sell("no")  # type: ignore[arg-type]
