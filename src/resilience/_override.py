"""Other settings for the calls made in a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _checks
from ._part import Part
from ._plan import PARTS, Plan
from ._scope import NOWHERE, SCOPE, BlockScope, current
from .clock import system
from .errors import ConfigError
from .policies.timeout import Deadline, Timeout, TimeoutPart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .policy import Policy

__all__ = ["Override", "apply", "as_part", "override"]


def as_part(kind: str, value: object, model: Part | None = None) -> Part | None:
    """What a user wrote for a part: the part itself, ``None`` for without, or seconds for a timeout or deadline.

    Raises:
        TypeError: it is something else.
    """
    model = None if model is None else model.model
    if isinstance(value, Timeout) and isinstance(model, TimeoutPart) and value.mode is None:
        return value.replace(mode=model.mode, argument=model.argument)
    if value is None or (isinstance(value, Part) and value.kind == kind):
        return value
    if kind in ("timeout", "deadline") and not isinstance(value, (Part, str)):
        seconds = _checks.seconds(kind, value)
        if isinstance(model, TimeoutPart):
            return Timeout(
                seconds,
                mode=model.mode,
                argument=model.argument,
                max_abandoned=model.max_abandoned,
                name=model.name,
                clock=model.clock,
            )
        return Timeout(seconds) if kind == "timeout" else Deadline(seconds)
    wanted = f"a part of kind {kind!r}"
    if kind in ("timeout", "deadline"):
        wanted += ", seconds"
    raise TypeError(f"{kind} must be {wanted} or None, not {value!r}")


class Override:
    """The block. For this task or thread only, and what it starts; works the same in asynchronous code.

    Use each object for one block at a time.
    """

    __slots__ = ("_changes", "_target", "_token")

    def __init__(self, target: Policy | None, changes: Mapping[str, Any]) -> None:
        for kind, value in changes.items():
            if kind not in PARTS:
                raise TypeError(f"override() knows {', '.join(PARTS)}; not {kind!r}")
            as_part(kind, value)  # says what is wrong here, not at some call later
        self._target = target
        self._changes = dict(changes)
        self._token: BlockScope | None = None

    def __enter__(self) -> None:
        if self._token is not None:
            raise RuntimeError("this override is in force already; make another one")
        outer = current() or NOWHERE
        overrides = (*outer.overrides, (self._target, self._changes))
        self._token = BlockScope(outer if outer is not NOWHERE else None, outer.limit, outer.attempt, overrides)
        SCOPE.set(self._token)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._token is not None
        self._token.close()
        self._token = None


def override(**changes: Any) -> Override:
    """Other settings for every policy that is used inside the block.

    ``with override(timeout=0.2, retry=None): ...``. A part is replaced, or with ``None`` switched off, where a policy
    has it; nothing is added. Seconds will do for ``timeout`` and ``deadline``. For one policy only:
    ``policy.override(...)``.

    Raises:
        TypeError: there is no such part, or the value is not one.
    """
    return Override(None, changes)


def apply(policy: Policy, plan: Plan, overrides: tuple[tuple[object, Mapping[str, Any]], ...]) -> Plan:
    """The plan of *policy* with what the blocks around the call ask for, the innermost last."""
    parts: dict[str, Any] = {kind: getattr(plan, kind) for kind in PARTS}
    changed = False
    for target, changes in overrides:
        if target is not None and target is not policy:
            continue
        for kind, value in changes.items():
            if parts[kind] is not None:
                parts[kind] = part = as_part(kind, value, parts[kind])
                changed = True
                if part is not None and plan.clock is not system:
                    part.adopt(plan.clock)
    return Plan(plan.who, plan.clock, plan.stats, **parts) if changed else plan


def check_targets(policy: Policy, changes: Mapping[str, Any]) -> None:
    """An override of one policy must name parts that it has.

    Raises:
        ConfigError: it names one that the policy has not, and would do nothing.
    """
    for kind in changes:
        if kind in PARTS and getattr(policy, kind) is None:
            raise ConfigError(
                f"{policy.who} has no {kind} to override; derive a policy with replace({kind}=...) instead"
            )
