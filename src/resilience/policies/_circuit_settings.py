"""What a breaker is set to, as its machine wants it; and which settings do not go together.

Each argument by itself was checked by the breaker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._checks import to_ns
from ..errors import ConfigError
from ..machines.circuit_types import Settings

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

__all__ = ["settings_of"]


def settings_of(breaker: CircuitBreaker) -> Settings:
    """The machine's settings.

    Raises:
        ConfigError: two arguments exclude each other, or nothing can ever open the circuit.
    """
    rates = breaker.failure_rate is not None or breaker.slow_rate is not None
    if not rates and breaker.consecutive is None:
        raise ConfigError(
            "failure_rate, consecutive and slow_rate must not all be None: nothing could open the circuit"
        )
    if (breaker.slow_rate is None) != (breaker.slow_call is None):
        raise ConfigError(f"slow_rate and slow_call go together, not {breaker.slow_rate!r} and {breaker.slow_call!r}")
    if breaker.window_calls is not None and breaker.window_seconds is not None:
        raise ConfigError("window_calls and window_seconds exclude each other; give one")
    if breaker.window_calls is not None and rates and breaker.minimum > breaker.window_calls:
        raise ConfigError(
            f"minimum must be at most window_calls ({breaker.window_calls}), not {breaker.minimum}: "
            "the window could never hold enough calls"
        )
    longest = max(60.0, breaker.open_for) if breaker.max_open is None else breaker.max_open
    if longest < breaker.open_for:
        raise ConfigError(f"max_open must be at least open_for ({breaker.open_for:g} s), not {breaker.max_open!r}")
    return Settings(
        consecutive=breaker.consecutive,
        failure_rate=breaker.failure_rate,
        slow_rate=breaker.slow_rate,
        minimum=breaker.minimum,
        calls=breaker.window_calls,
        span_ns=None if breaker.window_calls else to_ns(breaker.window_seconds or 10.0),
        open_for_ns=to_ns(breaker.open_for),
        max_open_ns=to_ns(longest),
        growth=breaker.growth,
        jitter=breaker.jitter,
        probes=breaker.probes,
        probe_timeout_ns=to_ns(breaker.probe_timeout),
        ramp_ns=to_ns(breaker.ramp),
        ramp_start=breaker.ramp_start,
    )
