"""The functions that decorated callables become.

A call that goes well in an ordinary state (closed circuit, token there) takes the short way: one function that holds
just the steps its policy has, written out, because in Python calling is what costs. It is made from the one template
below, whose margin says which lines belong to which part. The first thing out of the ordinary hands over to the story
(``_story.py``), which is the specification: a test holds the two equal over random scripts. Policies with
other parts go through the story from the start.

The source of each shape is compiled once, and registered so that tracebacks and debuggers show it.
"""

from __future__ import annotations

import inspect
import linecache
import re
import threading
from functools import lru_cache
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ._listen import WATCHERS
from ._runtime import Asyncio, Blocking, Call, drive
from ._scope import NOWHERE, SCOPE, Scope, tighter
from ._story import Ticket, attempt_failed, tell
from .policies.circuit_breaker import CircuitBreaker
from .policies.retry import Retry
from .policies.timeout import TimeoutPart
from .policies.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._stats import Stats
    from .policy import Policy

__all__ = ["build", "build_plain", "detour"]

# The margin: a line stands where all its capital letters hold and none of its small ones do.
#   N calls are counted    B breaker    S it watches for slow calls    L limiter    A timeout, handed over as argument
#   T its duration is kept D a budget is to be fed    C the clock is read before the call    E and after it
#   H its state is shared with other processes, and told them now and then
#   X a deadline, to be seen by the code below
#   G the function takes any arguments
# With W, ASYNC and AWAIT are the keywords; without, they are nothing. The other words in capitals come from the
# function's own signature. Names get a prefix, lest they meet a parameter's.
TEMPLATE = """\
     |ASYNC def resilient(PARAMETERS):
N    |    begin()
A    |    if GIVEN:  # of two timeouts the smaller one counts
A    |        return AWAIT rest(ARGS, ALL)
     |    if scope() is not None:
     |        return AWAIT rest(ARGS, KWARGS)
B    |    if not circuit.open_gate:
B    |        return AWAIT rest(ARGS, KWARGS)
B    |    permit = circuit.generation
b    |    permit = 0
C    |    now = clock.monotonic_ns
C    |    began = now()
c    |    began = None
H    |    if began >= shared.due:
H    |        return AWAIT rest(ARGS, KWARGS)
L    |    # Lane.take(1, began), written out
L    |    hold_lane()
L    |    try:
L    |        unit = began
L    |        if began < lane.last:
L    |            unit = lane.last
L    |        else:
L    |            lane.last = began
L    |        if lane._scale != 1:
L    |            unit *= lane._scale
L    |        tat = lane.tat
L    |        tat = (tat if tat > unit else unit) + lane._interval
L    |        taken = tat - unit <= lane._slack
L    |        if taken:
L    |            lane.tat = tat
L    |    finally:
L    |        free_lane()
L    |    if not taken:
L    |        return AWAIT rest(ARGS, KWARGS)
AG   |    kwargs[argument] = timeout.current
X    |    token = set_scope(scope_from(began))
     |    try:
     |        result = AWAIT fn(CALL)
     |    except BaseException as error:
X    |        reset_scope(token)
     |        trouble = error
     |    else:
X    |        reset_scope(token)
E    |        ended = now()
S    |        if ended - began >= slow_ns:
S    |            slow(ended - began, result, permit, ended)
S    |            permit = -2  # settled
B    |        # Circuit.success(permit, ended), written out
B    |        hold_circuit()
B    |        try:
B    |            if permit == circuit.counting:
B    |                circuit.run = 0
B    |                window = circuit.window
B    |                if ended >= window.edge:
B    |                    window.rotate(ended)
B    |                window.n += 1
B    |        finally:
B    |            free_circuit()
T    |        record(ended - began)
T    |        if ended >= keeper.due:
T    |            keeper.refresh(ended)
D    |        if bucket.level < bucket.full:
D    |            deposit()
     |        return result
     |    try:
     |        return AWAIT failed(trouble, permit, began, ARGS, KWARGS)
     |    finally:
     |        del trouble  # it holds this frame
"""

_WRAPPERS: WeakSet[Callable[..., Any]] = WeakSet()
_lock = threading.Lock()  # around that set, and around which way its functions go
_SHORT = {"retry", "fallback", "deadline", "breaker", "limiter", "timeout"}
_UNSET = object()
_PREFIX = "_rs_"
_LOCALS = ("permit", "now", "began", "unit", "tat", "taken", "token", "result", "error", "trouble", "ended", "window")
_ANY = {"PARAMETERS": "*args, **kwargs", "CALL": "*args, **kwargs", "ARGS": "args", "KWARGS": "kwargs", "ALL": "kwargs"}


def _signature(fn: Callable[..., Any], argument: str | None) -> tuple[dict[str, str], dict[str, Any]] | None:
    """How a wrapper with exactly the parameters of *fn* takes them and hands them on, and their defaults by name.

    Packing and unpacking any arguments costs more than all the bookkeeping of a retry. ``None``: *fn* takes any
    arguments, or what it takes is not certain.
    """
    if not isinstance(fn, (FunctionType, MethodType)) or hasattr(fn, "__signature__"):
        return None
    header: list[str] = []
    before: list[str] = []
    named: list[str] = []
    defaults: dict[str, Any] = {}
    handed = must_have_default = star = False
    for name, parameter in inspect.signature(fn, follow_wrapped=False).parameters.items():
        kind, default = parameter.kind, parameter.default
        if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name.startswith(_PREFIX):
            return None
        if kind is parameter.POSITIONAL_ONLY or name == "BaseException":
            return None  # rare, and awkward to hand on
        if kind is parameter.KEYWORD_ONLY and not star:
            star = True
            header.append("*")
        text = name
        if name == argument:
            handed = True
            default = _UNSET
        if default is not parameter.empty:
            defaults[f"{_PREFIX}default_{name}"] = default
            text += f"={_PREFIX}default_{name}"
            must_have_default = True
        elif must_have_default and not star:
            return None  # the argument that is handed over has others without a default behind it
        header.append(text)
        if name != argument:
            (named if handed or star else before).append(name)
    if argument is not None and not handed:
        return None
    keywords = [f"{name}={name}" for name in named]
    pairs = [f"{name!r}: {name}" for name in named]
    words = {"PARAMETERS": ", ".join(header), "ARGS": "(" + "".join(f"{name}, " for name in before) + ")"}
    words["KWARGS"] = words["ALL"] = "{" + ", ".join(pairs) + "}"
    if argument is not None:
        keywords.insert(0, f"{argument}={_PREFIX}timeout.current")
        words["ALL"] = "{" + ", ".join([f"{argument!r}: {argument}", *pairs]) + "}"
        words["GIVEN"] = f"{argument} is not {_PREFIX}default_{argument}"
    words["CALL"] = ", ".join([*before, *keywords])
    return words, defaults


@lru_cache(maxsize=4096)
def _compiled(shape: str, names: tuple[str, ...], words: tuple[tuple[str, str], ...]) -> CodeType:
    """The code that defines the wrapper of policies with the parts *shape*, for functions of one signature."""
    lines = []
    for line in TEMPLATE.splitlines():
        margin, code = line.split("|", 1)
        if all((flag in shape) if flag.isupper() else (flag.upper() not in shape) for flag in margin.strip()):
            lines.append(code + "\n")
    source = "".join(lines)
    for word in ("ASYNC ", "AWAIT "):
        source = source.replace(word, word.lower() if "W" in shape else "")
    # In one pass, so that nothing of the function's own is taken for a word of the template.
    exchange = {name: _PREFIX + name for name in (*names, *_LOCALS)} | dict(words)
    source = re.sub(r"(?<![.\w])\w+", lambda found: exchange.get(found[0], found[0]), source)
    name = f"<resilience {shape}({dict(words)['PARAMETERS']})>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return compile(source, name, "exec")


def build(policy: Policy, fn: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """The wrapper of a function or coroutine function."""
    plan = policy._plan
    breaker, limiter, timeout = plan.breaker, plan.limiter, plan.timeout
    retry, deadline, budget = plan.retry, plan.deadline, plan.budget
    if (
        not set(policy.parts) <= _SHORT
        or (retry is not None and (type(retry) is not Retry or retry.on_result is not None))
        or (breaker is not None and (type(breaker) is not CircuitBreaker or not breaker.plain))
        or (limiter is not None and (type(limiter) is not TokenBucket or limiter.store is not None))
        or (timeout is not None and not isinstance(timeout, TimeoutPart))  # one for each key
        or (timeout is not None and (timeout.shadow or is_async or timeout.mode != "argument"))
        or (deadline is not None and (deadline.shadow or is_async))
    ):
        return build_plain(policy, fn, is_async=is_async)
    argument = None if timeout is None or timeout.shadow else timeout.argument
    keeper: TimeoutPart | Stats | None = timeout
    record: Callable[[int], object] | None
    if plan.stats.observed:
        record = plan.stats.keep
        if timeout is not None and timeout.learn_from(plan.stats):
            plan.stats.learner = timeout
        else:
            keeper = plan.stats
    else:
        record = None if timeout is None else timeout.recorder()
    slow_ns = None if breaker is None else breaker._slow_ns
    clocked = retry is not None and (retry.elapsed is not None or retry.on_retry is not None)
    flags = {
        "W": is_async,
        "N": not policy.alone,
        "B": breaker is not None,
        "S": slow_ns is not None,
        "H": breaker is not None and breaker.shared is not None,
        "L": limiter is not None,
        "A": argument is not None,
        "T": record is not None,
        "D": budget is not None,
        "C": clocked or record is not None or any(part is not None for part in (breaker, limiter, timeout, deadline)),
        "E": breaker is not None or record is not None,
        "X": deadline is not None,
    }
    rest = _story_of(policy, fn, is_async=is_async)

    def failed(
        error: BaseException, permit: int, began: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            if began is not None:
                limit = plan.limit(NOWHERE, began)
                if timeout is not None and argument is not None:
                    limit = tighter(limit, timeout.limit(began, plan.who, 0))
                    kwargs.pop(argument, None)
                Ticket.resumed(plan, permit, began, limit).fail(error)
            elif isinstance(error, Exception):
                attempt_failed(plan.who, 1, error, None)
        except BaseException as interrupt:  # a listener ends the program
            error = interrupt
        try:
            if isinstance(error, Exception):
                return rest(args, kwargs, error, began)
            now = plan.clock.monotonic_ns()
            plan.ended(error, 1, now if began is None else began, now)
            raise error
        finally:
            del error  # its traceback holds this frame

    def scope_from(began: int) -> Scope:
        return Scope(plan.limit(NOWHERE, began))

    def slow(duration: int, result: object, permit: int, ended: int) -> None:
        assert isinstance(breaker, CircuitBreaker)
        try:
            breaker.succeed(permit, duration, result, ended)
        except BaseException as interrupt:  # a listener ends the program
            plan.stats.attempt()
            plan.ended(interrupt, 1, ended - duration, ended)
            raise

    # The wrapper finds these as its globals: cheaper than cells, which every call would have to copy.
    space: dict[str, Any] = {
        "fn": fn,
        "scope": SCOPE.get,
        "rest": rest,
        "failed": failed,
        "begin": plan.stats.begin,
        "clock": plan.clock,
        "timeout": timeout,
        "argument": argument,
        "set_scope": SCOPE.set,
        "reset_scope": SCOPE.reset,
        "scope_from": scope_from,
        "keeper": keeper,
        "record": record,
    }
    if isinstance(breaker, CircuitBreaker):
        space |= {
            "circuit": breaker._circuit,
            "hold_circuit": breaker._lock.acquire,
            "free_circuit": breaker._lock.release,
            "slow_ns": slow_ns,
            "slow": slow,
            "shared": breaker.shared,
        }
    if isinstance(limiter, TokenBucket):
        space |= {
            "lane": limiter._lane,
            "hold_lane": limiter._lock.acquire,
            "free_lane": limiter._lock.release,
        }
    if budget is not None:
        space |= {"bucket": budget._shared or budget._machine, "deposit": budget.deposit}
    signature = _signature(fn, argument)
    if signature is None:
        flags["G"] = True
        given = f"kwargs and {_PREFIX}argument in kwargs"
        place = None if timeout is None or argument is None else timeout.position(fn)
        words = {**_ANY, "GIVEN": given if place is None else f"{given} or {place} < len(args)"}
        defaults: dict[str, Any] = {}
    else:
        words, defaults = signature
    shape = "".join(flag for flag, holds in flags.items() if holds)
    named = {f"{_PREFIX}{name}": value for name, value in space.items()} | defaults
    exec(_compiled(shape, tuple(space), tuple(words.items())), named)  # noqa: S102 - the template above and nothing else
    wrapper: Callable[..., Any] = named["resilient"]
    with _lock:
        _WRAPPERS.add(wrapper)
        _send(wrapper, by_the_story=bool(WATCHERS))
    return wrapper


def _elsewhere() -> Scope:
    """In the place of the scope of a call: has it go by the story."""
    return NOWHERE


def detour(*, everything: bool) -> None:
    """Have each call go by the story, also through functions decorated before; or, again, what needs to only."""
    with _lock:
        for wrapper in _WRAPPERS:
            _send(wrapper, by_the_story=everything)


def _send(wrapper: Callable[..., Any], *, by_the_story: bool) -> None:
    wrapper.__globals__[f"{_PREFIX}scope"] = _elsewhere if by_the_story else SCOPE.get


def build_plain(policy: Policy, fn: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """The wrapper that goes all the way through the story."""
    begin = policy._plan.stats.begin
    story = _story_of(policy, fn, is_async=is_async)

    def resilient(*args: Any, **kwargs: Any) -> Any:
        begin()
        return story(args, kwargs)

    async def aresilient(*args: Any, **kwargs: Any) -> Any:
        begin()
        return await story(args, kwargs)

    return aresilient if is_async else resilient


def _story_of(policy: Policy, fn: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Tells the story of one call, blocking or to be awaited, from the start or from a failed first attempt on."""

    def story(
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        failed: Exception | None = None,
        began: int | None = None,
    ) -> Any:
        plan = policy._in_force()
        runtime = Asyncio(plan.clock) if is_async else Blocking(plan.clock)
        told = tell(plan, runtime, Call(fn, args, kwargs), failed, began)
        del failed  # its traceback holds this frame
        return told if is_async else drive(told)

    return story
