"""Decorated functions take what they took: every kind of signature, names that meet ours, wrong arguments."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience import _fast

# Parameters named as the short way names its own things, and otherwise awkwardly.
NAMES = [
    "a", "fn", "now", "began", "lane", "circuit", "result", "error", "args", "kwargs", "timeout", "scope", "rest",
    "CALL", "PARAMETERS", "ARGS", "KWARGS", "ALL", "resilient", "BaseException", "_rs_fn", "unit", "window", "self",
]  # fmt: skip
KINDS = ["plain", "plain", "plain", "default", "default", "keyword", "keyword default", "positional", "*", "**"]
MARK = object()


def source_of(parameters: list[tuple[str, str]]) -> str | None:
    """A function with these parameters that returns what it was given; ``None`` if Python has no such function."""
    order = ["positional", "plain", "default", "*", "keyword", "keyword default", "**"]
    parameters = sorted(parameters, key=lambda pair: order.index(pair[1]))
    parts: list[str] = []
    star = False
    for index, (name, kind) in enumerate(parameters):
        if kind in ("*", "**"):
            if any(other == kind for _, other in parameters[:index]):
                return None
            star = star or kind == "*"
            parts.append(kind + name)
            continue
        if kind.startswith("keyword") and not star:
            parts.append("*")
            star = True
        parts.append(name + ("=MARK" if "default" in kind else ""))
        following = parameters[index + 1][1] if index + 1 < len(parameters) else ""
        if kind == "positional" and following != "positional":
            parts.append("/")
    returned = ", ".join(f"{name!r}: {name}" for name, _ in parameters)
    return f"def function({', '.join(parts)}): return {{{returned}}}"


POLICIES: dict[str, Any] = {
    "retry": lambda: rs.Retry(on=ConnectionError),
    "full": lambda: rs.Policy(
        retry=rs.Retry(on=ConnectionError),
        breaker=rs.CircuitBreaker(slow_rate=0.9, slow_call=9.0),
        limiter=rs.TokenBucket(10**6, burst=10**6),
        timeout=rs.PercentileTimeout(0.9, between=(1.0, 2.0), shadow=True),
        deadline=5.0,
    ),
}


def outcome(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return fn(*args, **kwargs)
    except TypeError:
        return TypeError


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS)), max_size=5, unique_by=lambda pair: pair[0]),
    st.lists(st.integers(), max_size=5),
    st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3),
    st.sampled_from(sorted(POLICIES)),
)
def test_a_decorated_function_takes_what_it_took(
    parameters: list[tuple[str, str]], args: list[int], kwargs: dict[str, int], policy: str
) -> None:
    """The same results for the same arguments, the same refusals, and defaults that are the same objects."""
    source = source_of(parameters)
    if source is None:
        return
    space: dict[str, Any] = {"MARK": MARK}
    exec(source, space)
    function = space["function"]
    guarded = POLICIES[policy]()(function)
    assert outcome(guarded, tuple(args), kwargs) == outcome(function, tuple(args), kwargs)
    assert inspect.signature(guarded) == inspect.signature(function)


def test_the_argument_that_receives_the_time_may_stand_anywhere() -> None:
    """First, between others, last, required or not, keyword only; what the caller gives counts where it is less."""
    policy = rs.Policy(timeout=rs.Timeout(1.0, mode="argument"), retry=rs.Retry(on=ConnectionError))

    def last(a: int, timeout: float = 9.0) -> Any:
        return a, timeout

    def between(a: int, timeout: float = 9.0, b: int = 2, *, c: int = 3) -> Any:
        return a, timeout, b, c

    def first_required(timeout: float, a: int) -> Any:
        return a, timeout

    def only(*, timeout: float, a: int) -> Any:
        return a, timeout

    def anything(a: int, **options: float) -> Any:
        return a, options["timeout"]

    assert policy(last)(5) == (5, 1.0)
    assert policy(last)(5, 0.5) == (5, pytest.approx(0.5))
    assert policy(last)(5, timeout=0.5) == (5, pytest.approx(0.5))
    assert policy(between)(5) == (5, 1.0, 2, 3)
    assert policy(between)(5, b=7, c=8) == (5, 1.0, 7, 8)
    assert policy(between)(5, 0.5, 7, c=8) == (5, pytest.approx(0.5), 7, 8)
    assert policy(first_required)(a=5) == (5, 1.0)  # type: ignore[call-arg]
    assert policy(only)(a=5) == (5, 1.0)  # type: ignore[call-arg]
    assert policy(anything)(5) == (5, 1.0)
    with pytest.raises(TypeError, match=r"last\(\) missing 1 required positional argument: 'a'"):
        policy(last)()  # type: ignore[call-arg]


def test_a_function_that_others_have_wrapped_is_taken_at_its_word() -> None:
    """A decorator that adds an argument shows another signature than it takes; what it takes counts."""

    def adds(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn("added", *args, **kwargs)

        return wrapper

    @rs.Policy(retry=rs.Retry(on=ConnectionError))
    @adds
    def function(first: str, second: str) -> tuple[str, str]:
        return first, second

    assert function("mine") == ("added", "mine")

    def pretends(*args: int) -> int:
        return sum(args)

    pretends.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    assert rs.Policy(retry=rs.Retry(on=ConnectionError))(pretends)(1, 2) == 3


def test_coroutine_functions_have_their_own_signature_too() -> None:
    """Failures retried with the same arguments."""
    failures = itertools.count()

    @rs.retry(on=ConnectionError, backoff=0.0)
    async def function(a: int, *, b: int = 2) -> tuple[int, int]:
        if next(failures) < 2:
            raise ConnectionError
        return a, b

    assert asyncio.run(function(1, b=5)) == (1, 5)


def test_one_signature_is_compiled_once() -> None:
    """Decorating a thousand functions alike compiles one."""
    policy = rs.Policy(retry=rs.Retry(on=ConnectionError))
    policy(lambda unusual_name: unusual_name)
    before = _fast._compiled.cache_info()
    for _ in range(100):
        policy(lambda unusual_name: unusual_name)
    after = _fast._compiled.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (0, 100)
