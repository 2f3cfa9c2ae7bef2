"""Which policy a call of an AWS client runs under: by service, by operation, with a state of its own where asked.

Knows names and policies; no client, no call.
"""

from __future__ import annotations

import difflib
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from .. import _checks
from .._part import Part
from .._plan import Plan
from .._registry import registry
from .._stats import Stats
from ..errors import ConfigError
from ..policies.percentile_timeout import PercentileTimeout
from ..policy import Policy
from ._sending import short
from .failover import Failover
from .presets import recommended_for, standard_policy
from .retry import AwsRetry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..policies.retry import Retry
    from .operations import Operation

__all__ = ["Policies", "Route", "Routes", "Where"]

ANY = "*"
PER = ("policy", "service", "operation")

PRESETS: dict[str, Callable[[], Policy | Callable[[Operation], Policy]]] = {
    "recommended": recommended_for,
    "standard": standard_policy,
}

Given: TypeAlias = "Policy | Callable[[Operation], Policy | None] | str | None"
"""A policy, the name of one of ours, a function that is asked once for each operation, or ``None``: left alone."""

Policies: TypeAlias = "Given | Mapping[str, Given | Mapping[str, Given]]"
"""One for all; or one for each service; or, for a service, one for each operation. "*" stands for all others."""


class Where:
    """The place of a state: a service in a region."""

    __slots__ = ("region", "service")

    def __init__(self, service: str, region: str | None) -> None:
        self.service = service
        self.region = region or "global"


class Plans(NamedTuple):
    """What is in force for one call."""

    outer: Plan | None
    """Around the call as a whole, if anything: its fallback."""

    inner: Plan
    """Around its attempts."""

    short: bool
    """Whether the attempts may take the short way."""

    most: int | None
    """The most attempts."""


def _most(retry: Retry | None, operation: Operation) -> int | None:
    if retry is None:
        return 1
    return retry.attempts_for(operation) if isinstance(retry, AwsRetry) else retry.attempts


class Route:
    """How the calls of one operation of one client are made."""

    __slots__ = ("_known", "_who", "named", "operation", "policy", "timeout")

    def __init__(self, operation: Operation, policy: Policy | None, where: Where, *, named: bool) -> None:
        self.operation = operation
        self.policy = policy
        self._who = None if policy is None or policy.name is not None else f"{where.service}.{where.region}"
        self.named = named
        """Whether the policy was given for this very operation: who names it knows what it does."""
        self.timeout: PercentileTimeout | None = None
        if policy is not None and isinstance(policy.timeout, PercentileTimeout):
            # A Scan would teach the GetItem patience; each operation learns for itself.
            self.timeout = policy.timeout.replace(name=f"{self._who or policy.who}.{operation.name}")
            policy.timeout.stand_in(self.timeout)
        self._known: tuple[Plan, Plans] | None = None

    @property
    def shown(self) -> Policy | None:
        """The policy as it is for this operation: the live parts and counts, and the timeout of its own."""
        if self.policy is None or self.timeout is None:
            return self.policy
        shown = self.policy.replace(timeout=self.timeout)
        shown._plan.stats = self.policy._plan.stats
        return shown

    def plans(self) -> Plans:
        """What is in force for a call made here and now."""
        assert self.policy is not None
        plan = self.policy._in_force()
        if self._known is not None and self._known[0] is plan:
            return self._known[1]
        outer, inner = self._split(plan)
        found = Plans(outer, inner, short(inner), _most(inner.retry, self.operation))
        if plan is self.policy._plan:
            self._known = (plan, found)
        return found

    def _split(self, plan: Plan) -> tuple[Plan | None, Plan]:
        operation, timeout, who = self.operation, plan.timeout, self._who or plan.who
        fallback = plan.fallback
        if isinstance(fallback, Failover) and not operation.read_only:
            fallback = None
        if self.timeout is not None and self.policy is not None and timeout is self.policy.timeout:
            timeout = self.timeout
        hedge = plan.hedge if operation.hedgeable or (self.named and not operation.streams_in) else None
        outer = None
        if fallback is not None:  # calls are counted once, below
            outer = Plan(who, plan.clock, Stats(), fallback=fallback)
        inner = Plan(
            who,
            plan.clock,
            plan.stats,
            deadline=plan.deadline,
            retry=plan.retry,
            hedge=hedge,
            breaker=plan.breaker,
            limiter=plan.limiter,
            bulkhead=plan.bulkhead,
            timeout=timeout,
        )
        return outer, inner


_Place: TypeAlias = "tuple[str, ...]"
_policies: WeakKeyDictionary[Policy, dict[_Place, Policy]] = WeakKeyDictionary()
_parts: WeakKeyDictionary[Part, dict[_Place, Part]] = WeakKeyDictionary()
_deriving = threading.Lock()


def derive(template: Policy, where: Where, operation: str | None) -> Policy:
    """The policy made after *template* for a service in a region, and for an operation if given: one state each.

    Patterns that share a part get policies that share its copy.
    """
    place = (where.service, where.region) if operation is None else (where.service, where.region, operation)
    with _deriving:
        made = _policies.setdefault(template, {})
        policy = made.get(place)
        if policy is None:
            name = ".".join(place if template.name is None else (template.name, *place))
            settings: dict[str, Any] = {kind: _copy(part, place) for kind, part in template.parts.items()}
            list_in = template.registry or registry
            if name in list_in:  # of another pattern; the least number that is free, for what is gone leaves its own
                name = next(f"{name}#{n}" for n in itertools.count(2) if f"{name}#{n}" not in list_in)
            slo = None if template.slo is None else template.slo.replace()
            policy = made[place] = Policy(name, slo=slo, clock=template.clock, registry=list_in, **settings)
    return policy


def _copy(part: Part, place: _Place) -> Part:
    copies = _parts.setdefault(part, {})
    if place not in copies:
        copies[place] = part.replace()
    return copies[place]


class Routes:
    """The policies as a user gave them, for clients yet unknown.

    Args:
        given: see `Policies`.
        per: "policy": each policy given is one state, whatever uses it. "service": one state for each service and
            region. "operation": one for each operation of these.

    Raises:
        ConfigError, TypeError: *given* is not such a thing.
    """

    def __init__(self, given: Policies, per: str) -> None:
        self.per = _checks.one_of("per", per, PER)
        self.by_service: dict[str, dict[str, Given]] = {}
        if not isinstance(given, Mapping):
            given = {ANY: given}
        if not given:
            raise ConfigError("policies must name at least one service or operation, not be empty")
        names = [name for name in given if not isinstance(name, str)]
        if names:
            raise TypeError(f"policies must be keyed by names, not {names[0]!r}")
        operations = {name: policy for name, policy in given.items() if name[:1].isupper()}
        if operations:  # of one client, whatever its service
            rest = {name: policy for name, policy in given.items() if name not in operations and name != ANY}
            if rest:
                raise ConfigError(
                    f"policies must be keyed by services or by operations, not by both: {[*operations, *rest]!r}"
                )
            given = {ANY: given}  # type: ignore[dict-item]
        ours: dict[str, Given] = {}
        for service, value in given.items():
            table = dict(value) if isinstance(value, Mapping) else {ANY: value}
            for operation, policy in table.items():
                if isinstance(policy, str):
                    _checks.one_of("policy", policy, tuple(PRESETS))
                    if policy not in ours:
                        ours[policy] = PRESETS[policy]()
                    table[operation] = ours[policy]
                elif policy is not None and not isinstance(policy, Policy) and not _asked(policy):
                    raise TypeError(f"policies[{service!r}][{operation!r}] must be a Policy or None, not {policy!r}")
            self.by_service[service] = table

    def check_services(self, known: Iterable[str]) -> None:
        """Refuse services that do not exist.

        Raises:
            ConfigError: one does not.
        """
        _refuse(self.by_service.keys() - {ANY}, known, "service")

    def check_operations(self, service: str, known: Mapping[str, str]) -> None:
        """Refuse operations that the client of *service* does not have; *known* maps method names to them.

        Raises:
            ConfigError: it lacks one; there the client is named.
        """
        _refuse(self._table(service).keys() - {ANY}, [*known.values(), *known], f"operation of {service}")

    def services_with_operations(self) -> list[str]:
        """The services named together with operations."""
        return [service for service, table in self.by_service.items() if service != ANY and table.keys() - {ANY}]

    def _table(self, service: str) -> Mapping[str, Given]:
        return self.by_service.get(service, self.by_service.get(ANY, {}))

    def route(self, where: Where, operation: Operation, method: str) -> Route:
        """How calls of *operation*, known as *method* to users of the client, are made there."""
        table = self._table(where.service)
        named = next((name for name in (operation.name, method) if name in table), None)
        template = table.get(named or ANY)
        if template is not None and not isinstance(template, Policy):
            ask, template = template, template(operation)  # type: ignore[operator]
            if template is not None and not isinstance(template, Policy):
                raise TypeError(f"{ask!r} must return a Policy or None for {operation.name}, not {template!r}")
        if template is None:
            return Route(operation, None, where, named=False)
        policy = template
        if self.per != "policy":
            policy = derive(template, where, operation.name if self.per == "operation" else None)
        return Route(operation, policy, where, named=named is not None)


def _asked(given: object) -> bool:
    """Whether it is a function to be asked for a policy."""
    return callable(given) and not isinstance(given, (type, Part))


def _refuse(given: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    for name in sorted(given):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"policies: there is no {what} {name!r}{hint}")
