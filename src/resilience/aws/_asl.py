"""The ``Retry`` block of a state machine as values that were checked, and what its error names mean here.

Names, defaults and limits of the fields are those of the Amazon States Language (states-language.net, "Retrying after
error") and of AWS Step Functions. Knows no retrying.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import _checks
from ..backoff import Exponential
from ..errors import ConfigError, Rejected

__all__ = ["ALL", "JITTER", "LONGEST_DELAY", "MOST", "TASK_FAILED", "TIMEOUT", "Retrier", "matcher", "read"]

_FIELDS = (
    "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds", "JitterStrategy", "Comment",
)  # fmt: skip
MOST = 99_999_999
LONGEST_DELAY = 31_622_400
JITTER = {"NONE": "none", "FULL": "full"}
ALL, TIMEOUT, TASK_FAILED = "States.ALL", "States.Timeout", "States.TaskFailed"
# botocore's time-outs are no TimeoutError; known by name, so that nothing is imported for it.
_TIMEOUTS = {"TimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}


@dataclass(frozen=True, slots=True)
class Retrier:
    """One entry of the block, with every field in its place."""

    error_equals: tuple[str, ...]
    interval: int
    max_attempts: int
    rate: float
    max_delay: int | None
    jitter: str

    @property
    def backoff(self) -> Exponential:
        """The waits before its retries."""
        cap = _checks.LONGEST if self.max_delay is None else float(self.max_delay)
        return Exponential(self.interval, self.rate, cap=cap, jitter=JITTER[self.jitter])

    def written(self) -> dict[str, Any]:
        """The entry, with every field written out."""
        fields: dict[str, Any] = {
            "ErrorEquals": list(self.error_equals),
            "IntervalSeconds": self.interval,
            "MaxAttempts": self.max_attempts,
            "BackoffRate": self.rate,
        }
        if self.max_delay is not None:
            fields["MaxDelaySeconds"] = self.max_delay
        return {**fields, "JitterStrategy": self.jitter}


def _whole(field: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{field} must be a whole number from {least} to {most}, not {value!r}")
    return value


def _retrier(value: object, place: int) -> Retrier:
    if not isinstance(value, Mapping):
        raise ConfigError(f"Retry[{place}] must be an object with ErrorEquals, not {value!r}")
    for field in value:
        if field not in _FIELDS:
            raise ConfigError(f"Retry[{place}].{field} has no counterpart here: {value[field]!r}")
    at = f"Retry[{place}].".__add__
    names = value.get("ErrorEquals")
    if (
        not isinstance(names, Sequence)
        or isinstance(names, str)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ConfigError(f"{at('ErrorEquals')} must be a list of at least one error name, not {names!r}")
    rate = value.get("BackoffRate", 2.0)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 1 <= rate <= sys.float_info.max:
        raise ConfigError(f"{at('BackoffRate')} must be a number >= 1.0, not {rate!r}")
    interval = _whole(at("IntervalSeconds"), value.get("IntervalSeconds", 1), 1, MOST)
    max_delay = value.get("MaxDelaySeconds")
    if "MaxDelaySeconds" in value:
        max_delay = _whole(at("MaxDelaySeconds"), max_delay, 1, LONGEST_DELAY)
        if max_delay <= interval:
            raise ConfigError(
                f"{at('MaxDelaySeconds')} must be greater than IntervalSeconds ({interval}), not {max_delay!r}"
            )
    jitter = value.get("JitterStrategy", "NONE")
    if not isinstance(jitter, str) or jitter not in JITTER:
        raise ConfigError(f"{at('JitterStrategy')} must be 'NONE' or 'FULL', not {jitter!r}")
    return Retrier(
        tuple(names),
        interval,
        _whole(at("MaxAttempts"), value.get("MaxAttempts", 3), 0, MOST),
        float(rate),
        max_delay,
        jitter,
    )


def read(block: object) -> tuple[Retrier, ...]:
    """The retriers of a block: its list, one retrier, or the JSON of either.

    Raises:
        ConfigError: a field is out of range, unknown, or missing.
        TypeError: *block* is none of these.
    """
    if isinstance(block, str):
        try:
            block = json.loads(block)
        except ValueError as error:
            raise ConfigError(f"block must be JSON where it is a string, not {block!r}: {error}") from None
    if isinstance(block, Mapping):
        block = [block]
    if not isinstance(block, Sequence) or isinstance(block, (str, bytes)):
        raise TypeError(f"block must be a list of retriers, one retrier, or their JSON, not {block!r}")
    if not block:
        raise ConfigError("block must hold at least one retrier, not []")
    retriers = tuple(_retrier(value, place) for place, value in enumerate(block))
    for place, retrier in enumerate(retriers):
        if ALL in retrier.error_equals and (len(retrier.error_equals) > 1 or place < len(retriers) - 1):
            raise ConfigError(
                f"Retry[{place}].ErrorEquals: {ALL} must stand alone and in the last retrier, "
                f"not in {list(retrier.error_equals)!r}"
            )
    return retriers


def _code(error: Exception) -> str | None:
    """The code in a botocore ClientError, without what some services put before it."""
    try:
        code = error.response["Error"]["Code"]  # type: ignore[attr-defined]
        return str(code).replace("#", ".").rpartition(".")[2] or None
    except Exception:
        return None


def _is_timeout(error: Exception) -> bool:
    return any(kind.__name__ in _TIMEOUTS for kind in type(error).__mro__)


def matcher(name: str) -> Callable[[Exception], bool]:
    """What an error name means where nobody says otherwise."""
    if name == ALL:
        return lambda error: not isinstance(error, Rejected)
    if name == TIMEOUT:
        return _is_timeout
    if name == TASK_FAILED:
        return lambda error: not isinstance(error, Rejected) and not _is_timeout(error)
    # "DynamoDb.ThrottlingException" is the service's name for the code "ThrottlingException", or "Throttling".
    bare = name.rpartition(".")[2]

    def named(error: Exception) -> bool:
        if type(error).__name__ in (name, bare):
            return True
        code = _code(error)
        return code is not None and bare in (code, f"{code}Exception")

    return named
