"""The front door: what can be decorated, what is refused; looking at policies, deriving, overriding, steering them."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from resilience.__main__ import main
from resilience.testing import JumpingClock, VirtualClock, no_waiting, virtual_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

pytest_plugins = ["pytester"]


def full(**changes: Any) -> rs.Policy:
    """One of everything."""
    parts: dict[str, Any] = {
        "timeout": rs.Timeout(0.5, mode="cooperative"),
        "deadline": 3.0,
        "retry": rs.Retry(on=(ConnectionError, TimeoutError), attempts=4, backoff=rs.Exponential(0.1, cap=2.0)),
        "hedge": rs.Hedge(0.25),
        "breaker": rs.CircuitBreaker(consecutive=5, failure_rate=None),
        "limiter": rs.TokenBucket(100, burst=20),
        "bulkhead": rs.Bulkhead(5, queue=2),
        "fallback": rs.Fallback(value="saved"),
        "registry": None,
    }
    return rs.Policy("shop", **{**parts, **changes})


# -- decorating --------------------------------------------------------------------------------------------------------


def test_a_decorated_function_stays_what_it_was() -> None:
    """Name, docstring, signature and annotations; and whether it is a coroutine function."""

    @rs.retry(on=ConnectionError)
    def plain(a: int, /, b: str = "x", *, c: float = 1.0) -> tuple[int, str, float]:
        """Say so."""
        return a, b, c

    @rs.retry(on=ConnectionError)
    async def coroutine() -> int:
        return 1

    assert (plain.__name__, plain.__doc__) == ("plain", "Say so.")
    assert (
        str(inspect.signature(plain))
        == "(a: 'int', /, b: 'str' = 'x', *, c: 'float' = 1.0) -> 'tuple[int, str, float]'"
    )
    assert plain(1, c=2.0) == (1, "x", 2.0)
    assert inspect.iscoroutinefunction(coroutine)
    assert not inspect.iscoroutinefunction(plain)


@pytest.mark.parametrize("policy", [rs.Retry(on=ConnectionError), rs.Bulkhead(2)], ids=["short way", "story"])
def test_methods_of_all_kinds_partials_and_callables_can_be_guarded(policy: rs.Retry) -> None:
    """They are bound as ever, each in its own colour."""

    class Shop:
        def __init__(self) -> None:
            self.sold = 0

        @policy
        def sell(self, n: int) -> int:
            self.sold += n
            return self.sold

        @policy
        @classmethod
        def name(cls) -> str:
            return cls.__name__

        @staticmethod
        @policy
        def double(n: int) -> int:
            return 2 * n

        @policy
        async def order(self) -> str:
            return "ordered"

    class Callable:
        def __call__(self, n: int) -> int:
            return -n

    class Awaitable:
        async def __call__(self) -> str:
            return "awaited"

    shop = Shop()
    assert (shop.sell(2), shop.sell(3), Shop.name(), shop.double(4)) == (2, 5, "Shop", 8)
    assert asyncio.run(shop.order()) == "ordered"
    assert policy(functools.partial(shop.sell, 1))() == 6
    assert policy(Callable())(3) == -3
    assert policy(len)([1, 2]) == 2
    assert asyncio.run(policy(Awaitable())()) == "awaited"
    assert asyncio.run(policy(functools.partial(Awaitable()))()) == "awaited"


def test_what_cannot_be_guarded_is_refused_with_the_reason() -> None:
    """Generators, classes, and the wrong colour of call."""
    retry = rs.Retry(on=ConnectionError)

    def items() -> Iterator[int]:
        yield 1

    async def events() -> AsyncIterator[int]:
        yield 1

    async def coroutine() -> None: ...

    for generator in (items, events, functools.partial(items)):
        with pytest.raises(TypeError, match="generator function"):
            retry(generator)
    with pytest.raises(TypeError, match="decorates functions"):
        retry(dict)
    with pytest.raises(TypeError, match="decorates functions"):
        retry("name")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="acall"):
        retry.call(coroutine)  # type: ignore[unused-coroutine]
    with pytest.raises(TypeError, match="generator function"):
        retry.call(items)


def test_a_traceback_through_the_short_way_shows_its_source() -> None:
    """Generated code is registered, so debuggers and tracebacks can show it."""
    import traceback

    @rs.Policy(retry=rs.Retry(on=ConnectionError), breaker=rs.CircuitBreaker())
    def fails() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        fails()
    text = "".join(traceback.format_exception(caught.value))
    assert "_rs_result = _rs_fn()" in text
    assert caught.value.__context__ is None


def test_stacked_decorators_make_another_order() -> None:
    """The outermost is met first: a limiter outside a retry is paid once a call, inside once an attempt."""

    def tokens_used(*, outside: bool) -> int:
        bucket = rs.TokenBucket(1, burst=10, clock=VirtualClock())
        retry = rs.Retry(on=ConnectionError, attempts=3, backoff=0.0)

        def fails() -> None:
            raise ConnectionError

        stacked = bucket(retry(fails)) if outside else retry(bucket(fails))
        with pytest.raises(ConnectionError):
            stacked()
        return 10 - bucket.tokens

    assert (tokens_used(outside=True), tokens_used(outside=False)) == (1, 3)


# -- what makes no sense -----------------------------------------------------------------------------------------------


def test_senseless_stacks_are_refused_or_warned_about() -> None:
    """Retries over retries, a retry over a fallback for everything, a timeout beyond an outer deadline."""

    def plain() -> None: ...

    retry = rs.Retry(on=ConnectionError)
    with pytest.warns(rs.ResilienceWarning, match="stands down"):
        retry(retry(plain))
    with pytest.raises(rs.ConfigError, match="no error would ever reach the retry"):
        retry(rs.Fallback(value=1)(plain))
    retry(rs.Fallback(value=1, on=KeyError)(plain))
    with pytest.warns(rs.ResilienceWarning, match="beyond the deadline"):
        rs.Deadline(1.0)(rs.Timeout(2.0, mode="cooperative")(plain))


def test_senseless_policies_are_warned_about() -> None:
    """Settings that work but hardly as meant; the warning points at the line that made the policy."""
    with pytest.warns(rs.ResilienceWarning, match="elapsed") as caught:
        rs.Policy(deadline=1.0, retry=rs.Retry(on=ConnectionError, elapsed=2.0))
    assert caught[0].filename == __file__
    with pytest.warns(rs.ResilienceWarning, match="slow_call"):
        rs.Policy(timeout=1.0, breaker=rs.CircuitBreaker(slow_rate=0.5, slow_call=2.0))


def test_parts_of_one_policy_share_one_clock() -> None:
    """Given to the policy it reaches all parts; two different ones are refused."""
    one, other = VirtualClock(), VirtualClock()
    policy = rs.Policy(
        clock=one, limiter=rs.TokenBucket(1), retry=rs.Retry(on=ConnectionError, budget=rs.RetryBudget())
    )
    assert policy.limiter is not None
    assert policy.limiter._now is one
    with pytest.raises(rs.ConfigError, match="clock"):
        rs.Policy(clock=other, limiter=rs.TokenBucket(1, clock=one))
    with pytest.raises(rs.ConfigError, match="already"):
        rs.Policy(clock=other, limiter=policy.limiter)


# -- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [
        full(),
        rs.Retry(on=ConnectionError, attempts=None, elapsed=5.0, backoff=[0.1, 1.0], nested=True),
        rs.Retry(on=(OSError,), budget=None),
        rs.PercentileTimeout(0.99, between=(0.1, 1.0), mode="thread"),
        rs.CircuitBreaker(window_calls=50, slow_rate=0.5, slow_call=1.0, shadow=True),
        rs.KeyedTokenBucket(0.5, per=60.0, max_keys=10),
        rs.PerKey(rs.Bulkhead(3), key=len),
        rs.Fallback(len, max, value=None, on=KeyError),
        rs.RetryBudget(5, per_success=0.2),
        rs.Linear(0.5, jitter="full"),
        rs.Policy(),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_the_repr_can_be_pasted_back(thing: object) -> None:
    """What it shows makes an equal one, without the arguments that were left alone."""
    text = repr(thing)
    assert repr(eval(text, {**vars(rs)})) == text
    assert "clock" not in text


def test_counters_of_a_policy_hold_those_of_its_parts() -> None:
    """Calls and their ends, and a dictionary for each part."""
    policy = full(hedge=None, timeout=None)
    policy.call(lambda: 1)
    counters = policy.counters
    assert (counters["calls"], counters["failed"]) == (1, 0)
    assert set(policy.parts) <= set(counters)
    assert list(policy.parts) == ["fallback", "deadline", "retry", "breaker", "limiter", "bulkhead"]


def test_errors_survive_pickling() -> None:
    """Across processes they keep what they know."""
    for error in (
        rs.CircuitOpen("open", policy="shop", retry_after=2.0),
        rs.DeadlineExceeded("late", policy="shop", timeout=1.0, elapsed=1.5),
        rs.RetriesExhausted("gave up", attempts=3, result="busy"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_registry_lists_named_policies_while_they_live() -> None:
    """By name, to be looked at and steered; the newest of a name, with a warning; gone when nothing uses it."""
    registry = rs.Registry()
    policy = rs.Policy("db", breaker=rs.CircuitBreaker(), registry=registry)
    assert list(registry) == ["db"]
    assert "db" in registry
    assert len(registry) == 1
    registry["db"].breaker.force_open()  # type: ignore[union-attr]
    with pytest.raises(rs.CircuitOpen, match="db"):
        policy.call(lambda: None)
    with pytest.warns(rs.ResilienceWarning, match="exists already"):
        newer = rs.Policy("db", registry=registry)
    assert registry.get("db") is newer
    assert policy.replace(deadline=1.0).registry is None
    assert repr(registry) == "<Registry of db>"
    del newer
    gc.collect()
    assert registry.get("db") is None
    registry.remove("db")
    assert repr(rs.Registry()) == "<Registry of no policies>"


# -- deriving and overriding -------------------------------------------------------------------------------------------


def test_a_derived_policy_shares_the_state_of_what_it_keeps() -> None:
    """Other settings, one breaker."""
    policy = full()
    derived = policy.replace(deadline=1.0, hedge=None, retry=None)
    assert derived.breaker is policy.breaker
    assert derived.hedge is None
    assert derived.deadline is not None
    assert derived.deadline.seconds == 1.0
    assert derived.name == "shop"
    copy = rs.Retry(on=ConnectionError, attempts=7).replace(attempts=2)
    assert (copy.attempts, copy.on) == (2, ConnectionError)
    assert rs.Fallback(len, value=3).replace(on=KeyError).functions == (len,)


def test_an_override_holds_for_its_block_and_task_only() -> None:
    """Everywhere below, or for one policy; the innermost last; nothing is added; the short way obeys it too."""
    clock = VirtualClock()
    policy = rs.Policy(timeout=rs.Timeout(5.0, mode="argument"), clock=clock)
    other = rs.Policy(timeout=rs.Timeout(7.0, mode="argument"), clock=clock)
    without = rs.Policy(retry=rs.Retry(on=ConnectionError), clock=clock)

    @policy
    def mine(timeout: float = 0.0) -> float:
        return timeout

    @other
    def theirs(timeout: float = 0.0) -> float:
        return timeout

    @without
    def untimed(timeout: float = 0.0) -> float:
        return timeout

    with rs.override(timeout=2.0):
        assert (mine(), theirs(), untimed()) == (2.0, 2.0, 0.0)
        with policy.override(timeout=rs.Timeout(1.0)):
            assert (mine(), theirs()) == (1.0, 2.0)
        with policy.override(timeout=None):
            assert (mine(), theirs()) == (0.0, 2.0)
    assert (mine(), theirs()) == (5.0, 7.0)

    async def task(seconds: float) -> float:
        with policy.override(timeout=seconds):
            await asyncio.sleep(0)
            return mine()

    async def tasks() -> list[float]:
        return await asyncio.gather(*(task(seconds) for seconds in (1.0, 2.0, 3.0)))

    assert asyncio.run(tasks()) == [1.0, 2.0, 3.0]


def test_an_override_can_switch_off_and_exchange() -> None:
    """No retry here, another deadline there."""
    clock = VirtualClock()
    calls: list[float | None] = []
    policy = rs.Policy(retry=rs.Retry(on=ConnectionError, backoff=0.0), deadline=9.0, clock=clock)

    @policy
    def fails() -> None:
        calls.append(rs.remaining())
        raise ConnectionError

    with pytest.raises(ConnectionError), policy.override(retry=None, deadline=1.0):
        fails()
    assert calls == [1.0]
    block = policy.override(retry=rs.Retry(on=ConnectionError, attempts=2, backoff=0.0))
    with pytest.raises(ConnectionError), block:
        fails()
    assert len(calls) == 3
    with block, pytest.raises(RuntimeError, match="in force"), block:
        pass


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_blocks_are_guarded_and_may_nest_across_threads_and_tasks() -> None:
    """One object, many blocks at once; each is settled on its own."""
    clock = VirtualClock()
    breaker = rs.CircuitBreaker(consecutive=2, clock=clock)
    with breaker, breaker:
        pass
    for _ in range(2):
        with pytest.raises(ConnectionError), breaker:
            raise ConnectionError
    with pytest.raises(rs.CircuitOpen), breaker:
        raise AssertionError("not reached")
    policy = rs.Policy(bulkhead=rs.Bulkhead(3), clock=clock)

    async def block(seconds: float) -> int:
        async with policy as attempt:
            await asyncio.sleep(seconds)
            return attempt.number

    async def blocks() -> list[int]:
        return await asyncio.gather(*(block(seconds) for seconds in (3.0, 1.0, 2.0)))

    assert clock.run(blocks()) == [1, 1, 1]
    assert policy.counters["bulkhead"]["in_use"] == 0  # type: ignore[index]
    assert policy.counters["calls"] == 3


def test_blocks_held_open_by_generators_need_not_nest() -> None:
    """Left in another order than entered, each gives back its own."""
    one, two = rs.Bulkhead(1), rs.Bulkhead(1)

    def hold(guard: rs.Bulkhead) -> Generator[None, None, None]:
        with guard:
            yield

    first, second = hold(one), hold(two)
    next(first)
    next(second)
    first.close()
    assert (one.counters["in_use"], two.counters["in_use"]) == (0, 1)
    second.close()
    assert two.counters["in_use"] == 0


def test_limits_of_blocks_that_do_not_nest_end_with_them() -> None:
    """Whatever the order in which they are left, each limit is gone when its block is, and none stays."""
    clock = VirtualClock()

    def hold(seconds: float) -> Generator[None, None, None]:
        with rs.Deadline(seconds, clock=clock):
            yield

    for order in itertools.permutations(range(3)):
        held = [hold(seconds) for seconds in (9.0, 6.0, 3.0)]
        for each in held:
            next(each)
        assert rs.remaining() == pytest.approx(3.0)
        for index in order:
            held[index].close()
        assert rs.remaining() is None


def test_what_a_block_cannot_do_is_said_with_the_idiom() -> None:
    """Retry, hedge and fallback need the call again."""
    for part, words in (
        (rs.Retry(on=ConnectionError), "for attempt in"),
        (rs.Hedge(1.0), "call"),
        (rs.Fallback(value=1), "call"),
    ):
        with pytest.raises(rs.ConfigError, match=words), part:
            pass
    with pytest.raises(rs.ConfigError, match="hedged or fall back"):
        iter(rs.Policy(hedge=rs.Hedge(1.0)))


def test_the_loop_makes_the_attempts_and_ends() -> None:
    """Blocking and asynchronous; a body that is not guarded by `with` is an error, not an endless loop."""
    clock = VirtualClock()
    retry = rs.Retry(on=ConnectionError, attempts=3, backoff=1.0, clock=clock)
    seen = []
    for attempt in retry:
        with attempt:
            seen.append((attempt.number, rs.current_attempt()))
            if attempt.number < 3:
                raise ConnectionError
    assert seen == [(1, 1), (2, 2), (3, 3)]

    async def loop() -> int:
        async for attempt in retry:
            async with attempt:
                if attempt.number < 2:
                    raise ConnectionError
        return attempt.number

    assert clock.run(loop()) == 2
    assert clock.sleeps == [1.0, 1.0, 1.0]

    async def blocking_in_a_loop(policy: rs.Policy) -> int:
        async for attempt in policy:
            with attempt:
                return attempt.number
        return 0

    assert clock.run(blocking_in_a_loop(rs.Policy(retry=retry))) == 1
    with pytest.raises(rs.ConfigError, match="async with attempt"):
        clock.run(blocking_in_a_loop(rs.Policy(retry=retry, limiter=rs.TokenBucket(1))))
    with pytest.raises(RuntimeError, match="with attempt"):
        for _ in retry:
            pass
    with pytest.raises(ConnectionError) as caught:
        for attempt in retry:
            with attempt:
                raise ConnectionError
    assert "3 attempts" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="each block needs its own"):
        for attempt in retry:
            with attempt, attempt:
                pass


def test_a_loop_judges_results_it_is_told() -> None:
    """set_result() is to on_result what returning is."""
    retry = rs.Retry(on=ConnectionError, backoff=0.0, on_result=lambda result: result == "busy")
    answers = iter(["busy", "done"])
    result = ""
    for attempt in retry:
        with attempt:
            result = next(answers)
            attempt.set_result(result)
    assert result == "done"


# -- testing kit and command line --------------------------------------------------------------------------------------


def test_virtual_time_reaches_functions_decorated_before() -> None:
    """Installed below all policies on the machine's clock; nested, and taken away again."""

    @rs.retry(on=ConnectionError, attempts=3, backoff=[3600.0, 7200.0])
    def fails() -> None:
        raise ConnectionError

    with virtual_clock() as outer:
        with pytest.raises(ConnectionError):
            fails()
        with virtual_clock() as inner, pytest.raises(ConnectionError):
            fails()
        with pytest.raises(ConnectionError):
            fails()
    assert outer.sleeps == [3600.0, 7200.0] * 2
    assert inner.sleeps == [3600.0, 7200.0]


def test_no_waiting_lets_time_jump() -> None:
    """Backoffs and limiters take no time, asynchronous ones too, and clocks agree that it passed."""
    bucket = rs.TokenBucket(1)
    breaker = rs.CircuitBreaker(open_for=100.0, jitter=0.0)

    @rs.retry(on=ConnectionError, backoff=1000.0)
    async def fails() -> None:
        raise ConnectionError

    with no_waiting() as clock:
        wall = clock.time()
        for _ in range(5):
            bucket.acquire()
        breaker.trip()
        with pytest.raises(ConnectionError):
            asyncio.run(fails())
        assert breaker.call(lambda: "half-open by now") == "half-open by now"
        assert clock.time() - wall >= 2000.0
        assert repr(clock).startswith("<JumpingClock 200")
    assert isinstance(JumpingClock(), rs.Clock)
    assert isinstance(VirtualClock(), rs.Clock)


def test_tasks_interleave_in_virtual_time_as_in_real_time() -> None:
    """The event loop jumps to the next timer; everything that waits obeys."""
    clock = VirtualClock(start=50.0)
    log: list[tuple[str, float]] = []

    async def worker(name: str, period: float) -> None:
        for _ in range(3):
            await asyncio.sleep(period)
            log.append((name, round(clock.now, 3)))

    async def all_workers() -> None:
        await asyncio.gather(worker("a", 2.0), worker("b", 3.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await asyncio.Event().wait()

    clock.run(all_workers())
    assert log == [("a", 52.0), ("b", 53.0), ("a", 54.0), ("a", 56.0), ("b", 56.0), ("b", 59.0)] or log == [
        ("a", 52.0), ("b", 53.0), ("a", 54.0), ("b", 56.0), ("a", 56.0), ("b", 59.0),
    ]  # fmt: skip
    assert clock.now == pytest.approx(59.0 + 86_400, abs=0.001)
    before = clock.now
    clock.set_back(5.0)
    assert clock.now == pytest.approx(before - 5.0)
    assert repr(clock).startswith("<VirtualClock at")

    async def elsewhere() -> None:
        await clock.asleep(100.0)  # in an event loop that is not virtual

    asyncio.run(elsewhere())
    assert clock.now == pytest.approx(before + 95.0)


def test_a_clock_of_ones_own_can_be_handed_in() -> None:
    """Anything with the five methods."""

    class Own(VirtualClock):
        pass

    own = Own()
    with pytest.raises(ConnectionError):
        rs.Retry(on=ConnectionError, backoff=5.0, clock=own).call(lambda: (_ for _ in ()).throw(ConnectionError))
    assert own.sleeps == [5.0, 5.0]


def test_the_plugin_offers_both_as_fixtures(pytester: pytest.Pytester) -> None:
    """In a project of somebody else's: fixtures by name, and a setting for the whole suite."""
    pytester.makepyfile(
        test_theirs="""
        import resilience as rs

        calls = []

        @rs.retry(on=ConnectionError, backoff=3600.0)
        def fails_twice():
            calls.append(1)
            if len(calls) % 3:
                raise ConnectionError
            return "ok"

        def test_virtual(virtual_clock):
            assert fails_twice() == "ok"
            assert virtual_clock.sleeps == [3600.0, 3600.0]

        def test_jumping(no_waiting):
            assert fails_twice() == "ok"

        def test_by_setting():
            assert fails_twice() == "ok"
        """
    )
    pytester.makeini("[pytest]\nresilience_no_waiting = true\n")
    plugin = [] if _plugin_is_installed() else ["-p", "resilience.pytest_plugin"]
    pytester.runpytest_inprocess(*plugin).assert_outcomes(passed=3)


def _plugin_is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "resilience.pytest_plugin" for point in entry_points(group="pytest11"))


def test_the_command_line_helps_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version; an unknown command is an error that lists the known ones."""
    assert main([]) == main(["--help"]) == 0
    assert main(["version"]) == 0
    assert f"resilience-client {rs.__version__}" in capsys.readouterr().out
    assert main(["nonsense"]) == 2
    assert "no command 'nonsense'" in capsys.readouterr().err


def test_a_hook_for_every_way_out_of_a_worker() -> None:
    """An idle worker thread serves the next call; a forked child starts afresh."""
    from resilience import _workers

    timeout = rs.Timeout(5.0, mode="thread")
    timeout.call(lambda: None)
    before = _workers._pool.started
    for _ in range(20):
        timeout.call(lambda: None)
    assert _workers._pool.started <= before + 2
    pool = _workers._pool
    try:
        _workers._forget()
        assert _workers._pool is not pool
        assert timeout.call(lambda: "child") == "child"
    finally:
        _workers._pool = pool


def test_nothing_here_warns_by_accident() -> None:
    """Making and using an ordinary policy is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy = full(hedge=None, timeout=rs.Timeout(0.5, mode="argument"))
        assert policy.call(lambda timeout=None: timeout) == pytest.approx(0.5, abs=0.1)
