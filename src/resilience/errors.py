"""Every error this library raises of its own.

::

    ResilienceError
    ├─ Rejected            the call was never sent; .policy, .retry_after
    │  ├─ CircuitOpen      the circuit breaker stands open
    │  ├─ RateLimited      the rate limiter has no token (in time)
    │  └─ BulkheadFull     no slot, and no room (or time) to queue for one
    ├─ TimedOut            the attempt took too long; also a TimeoutError
    │  └─ DeadlineExceeded the whole call ran out of time
    ├─ RetriesExhausted    only when Retry(wrap=True) asks for it
    └─ ConfigError         also a ValueError: a setting that cannot work

When retries run out, the caller's own last error is raised as it was; see `RetriesExhausted` for the
exception to that rule.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = [
    "BulkheadFull",
    "CircuitOpen",
    "ConfigError",
    "DeadlineExceeded",
    "RateLimited",
    "Rejected",
    "ResilienceError",
    "ResilienceWarning",
    "RetriesExhausted",
    "TimedOut",
]


_E = TypeVar("_E", bound=BaseException)


class ResilienceError(Exception):
    """The root of every error raised by this library itself."""


class Rejected(ResilienceError):
    """A policy refused the call, which was therefore never sent.

    Attributes:
        policy: the name of the policy that refused, or its kind where it has no name.
        retry_after: seconds after which a call has a chance again; ``None`` where nobody can know.
    """

    def __init__(self, message: str, *, policy: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.policy = policy
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class CircuitOpen(Rejected):
    """The circuit breaker is open: the dependency is not called until it had time to recover."""


class RateLimited(Rejected):
    """The rate limiter has no token, or none soon enough."""


class BulkheadFull(Rejected):
    """All slots are taken and the queue is full, or the wait in it was too long."""


class TimedOut(ResilienceError, TimeoutError):
    """An attempt took longer than its timeout.

    Attributes:
        policy: the name of the policy whose timeout it was, or its kind where it has no name.
        timeout: the limit that was in force, in seconds.
        elapsed: the seconds that had passed when the attempt was given up.
    """

    def __init__(
        self,
        message: str,
        *,
        policy: str | None = None,
        timeout: float | None = None,
        elapsed: float | None = None,
    ) -> None:
        super().__init__(message)
        self.policy = policy
        self.timeout = timeout
        self.elapsed = elapsed

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class DeadlineExceeded(TimedOut):
    """The whole call, with its retries and waits, ran out of time."""


class RetriesExhausted(ResilienceError):
    """All attempts failed; raised only by ``Retry(wrap=True)``, from the last error.

    Attributes:
        attempts: how many attempts were made.
        result: the last result, where results (not errors) made the call retry.
    """

    def __init__(self, message: str, *, attempts: int, result: object = None) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigError(ResilienceError, ValueError):
    """A setting that is out of range or cannot work together with another one."""


class ResilienceWarning(UserWarning):
    """A setting that works but hardly does what was meant."""


class Boxed(Exception):
    """A StopIteration of the caller's on its way through coroutines, which cannot raise one (PEP 479)."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


def unboxed(error: _E) -> _E | StopIteration:
    """The error that is meant."""
    return error.error if isinstance(error, Boxed) else error


def _rebuild(kind: type[ResilienceError], args: tuple[object, ...], state: dict[str, object]) -> ResilienceError:
    """Unpickle an error whose constructor takes keywords."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
