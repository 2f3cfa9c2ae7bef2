"""Limiters that begin at the rate which AWS's Service Quotas grants, and how near to it one sends.

Knows the answers of the Service Quotas API. The client that asks is the caller's: a boto3 ``service-quotas`` client,
with the caller's credentials, region and timeouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._hooks import log
from ..errors import ConfigError
from ..machines.adaptive_rate import Meter
from ..policies.adaptive_token_bucket import AdaptiveTokenBucket
from ..policies.token_bucket import TokenBucket
from .kinds import is_throttle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from ..clock import Clock

__all__ = ["MeasuredTokenBucket", "Quota", "QuotaGauge", "limiter_from_quota", "quota_rate"]

_UNITS = {
    "MICROSECOND": 1e-6,
    "MILLISECOND": 1e-3,
    "SECOND": 1.0,
    "MINUTE": 60.0,
    "HOUR": 3600.0,
    "DAY": 86400.0,
    "WEEK": 604800.0,
}


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of the account, as a rate.

    Attributes:
        service_code: the service it belongs to, such as ``"apigateway"``.
        quota_code: its code, such as ``"L-8A5B8E43"``.
        name: its name.
        value: its value, in *unit* per *period*.
        unit: its unit; ``"None"`` for a plain number.
        period: seconds that the value is for; ``None`` where Service Quotas names none.
        adjustable: whether AWS raises it on request.
        applied: whether it is this account's own; False for AWS's default.
        share: the share of it that this process is to use.
        per: seconds taken where *period* is ``None``.
    """

    service_code: str
    quota_code: str
    name: str
    value: float
    unit: str
    period: float | None
    adjustable: bool
    applied: bool
    share: float = 1.0
    per: float = 1.0

    @property
    def total(self) -> float:
        """What the account may send, per second."""
        return self.value / (self.per if self.period is None else self.period)

    @property
    def rate(self) -> float:
        """What this process may send, per second: its share."""
        return self.total * self.share

    def usage(self, limiter: AdaptiveTokenBucket | MeasuredTokenBucket) -> float:
        """What is sent through *limiter*, as part of the account's quota: from 0, above 1 when too much is sent.

        Other senders of the account are not seen.
        """
        return limiter.sending_rate / self.total if self.total > 0 else 0.0


class QuotaGauge:
    """How near its quota a limiter sends; ``gauge.usage`` is for a metrics collector to read. Thread-safe.

    Attributes:
        quota: the `Quota`.
        limiter: whose sending is measured.
    """

    __slots__ = ("limiter", "quota")

    def __init__(self, quota: Quota, limiter: AdaptiveTokenBucket | MeasuredTokenBucket) -> None:
        self.quota = quota
        self.limiter = limiter

    @property
    def usage(self) -> float:
        """What is sent, as part of the account's quota: 0 for nothing, 1 for all of it."""
        return self.quota.usage(self.limiter)

    def __repr__(self) -> str:
        return f"<QuotaGauge {self.quota.service_code}/{self.quota.quota_code}: {self.usage:.1%}>"


class MeasuredTokenBucket(TokenBucket):
    """A `TokenBucket` that also measures how many of the calls it let pass are answered per second.

    Its rate is fixed. Arguments, errors and thread-safety are those of `TokenBucket`.
    """

    learns = True

    gauge: QuotaGauge | None = None

    def __init__(
        self,
        rate: float | Fraction,
        *,
        per: float = 1.0,
        burst: int = 1,
        max_wait: float = 1.0,
        name: str | None = None,
        shadow: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(rate, per=per, burst=burst, max_wait=max_wait, name=name, shadow=shadow, clock=clock)
        self._meter = Meter()

    def heard(self, error: Exception | None, now: int) -> None:
        """An answer came, at *now* ns; a policy tells by itself."""
        with self._lock:
            self._meter.add(1, now)

    @property
    def sending_rate(self) -> float:
        """Answers per second, as measured over the last second or so."""
        with self._lock:
            return self._meter.read(self.now())


def quota_rate(client: Any, service_code: str, quota_code: str, *, share: float = 1.0, per: float = 1.0) -> Quota:
    """Ask Service Quotas for a quota: the account's own, or AWS's default where it has none.

    Args:
        client: a boto3 ``service-quotas`` client, of the region the quota is for. The call takes as long as the
            client's timeouts and retries allow.
        service_code: the service, such as ``"apigateway"``; see ``list_services``.
        quota_code: the quota, such as ``"L-8A5B8E43"``; see ``list_service_quotas``.
        share: the share of the quota that this process is to use, above 0 and at most 1.
        per: seconds that the value is for, where Service Quotas does not tell; most rates are per second.

    Raises:
        botocore.exceptions.ClientError: Service Quotas refuses, or knows no such quota.
        botocore.exceptions.BotoCoreError: it cannot be reached.
        ConfigError: an argument is out of range, or the answer holds no number.

    Needs ``servicequotas:GetServiceQuota`` and ``servicequotas:GetAWSDefaultServiceQuota``.
    """
    names = {
        "ServiceCode": _checks.text("service_code", service_code),
        "QuotaCode": _checks.text("quota_code", quota_code),
    }
    share = _checks.ratio("share", share)
    per = _checks.span("per", per)
    applied = True
    try:
        found = client.get_service_quota(**names).get("Quota") or {}
    except client.exceptions.NoSuchResourceException:
        found = {}
    if not _is_number(found.get("Value")):
        applied = False
        found = client.get_aws_default_service_quota(**names).get("Quota") or {}
    value: Any = found.get("Value")
    if not _is_number(value):
        reason = (found.get("ErrorReason") or {}).get("ErrorMessage", "no reason given")
        raise ConfigError(f"Service Quotas has no value for {service_code}/{quota_code}: {reason}")
    return Quota(
        service_code=service_code,
        quota_code=quota_code,
        name=found.get("QuotaName", ""),
        value=float(value),
        unit=found.get("Unit", "None"),
        period=_seconds(found.get("Period")),
        adjustable=bool(found.get("Adjustable", False)),
        applied=applied,
        share=share,
        per=per,
    )


def limiter_from_quota(
    client: Any,
    service_code: str,
    quota_code: str,
    *,
    share: float = 1.0,
    per: float = 1.0,
    adaptive: bool = True,
    fallback_rate: float | None = None,
    **settings: Any,
) -> AdaptiveTokenBucket | MeasuredTokenBucket:
    """A limiter that starts at this process's share of a quota, or at *fallback_rate* where it cannot be learned.

    Where the quota is known, the limiter's ``gauge`` is its `QuotaGauge`; else that is ``None``.

    Args:
        client: as for `quota_rate`.
        service_code: as for `quota_rate`.
        quota_code: as for `quota_rate`.
        share: as for `quota_rate`.
        per: as for `quota_rate`.
        adaptive: an `AdaptiveTokenBucket` that goes down when AWS throttles, and back up to the share (or to
            ``maximum``); or else a `TokenBucket` that stays.
        fallback_rate: tokens per second where Service Quotas cannot be reached, refuses, or gives no usable number;
            that is logged. ``None``: its error is raised.
        settings: further arguments of the limiter, such as ``max_wait`` or ``rule``.

    Raises:
        ConfigError, TypeError: an argument is out of range.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError: see `quota_rate`; only without
            *fallback_rate*.
    """
    _checks.text("service_code", service_code)
    _checks.text("quota_code", quota_code)
    _checks.ratio("share", share)
    _checks.span("per", per)
    _checks.flag("adaptive", adaptive)
    if fallback_rate is not None:
        fallback_rate = _checks.number("fallback_rate", fallback_rate, above=0)
    quota: Quota | None = None
    try:
        quota = quota_rate(client, service_code, quota_code, share=share, per=per)
        rate = _checks.number(f"the quota {service_code}/{quota_code}", quota.rate, above=0)
    except Exception as error:
        if fallback_rate is None:
            raise
        log.warning(
            "no usable quota %s/%s (%s: %s); starting at the fallback of %g a second",
            service_code,
            quota_code,
            type(error).__name__,
            error,
            fallback_rate,
        )
        quota, rate = None, fallback_rate
    limiter: AdaptiveTokenBucket | MeasuredTokenBucket
    if adaptive:
        chosen: dict[str, Any] = {"throttled": is_throttle, "minimum": min(0.5, rate), **settings}
        if quota is not None:
            chosen.setdefault("maximum", rate)
        limiter = AdaptiveTokenBucket(rate, **chosen)
    else:
        limiter = MeasuredTokenBucket(rate, **settings)
    limiter.gauge = None if quota is None else QuotaGauge(quota, limiter)
    return limiter


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _seconds(period: Mapping[str, Any] | None) -> float | None:
    """A quota's period; ``None`` if there is none, or one in a unit that is not known here."""
    if not period or period.get("PeriodUnit") not in _UNITS:
        return None
    seconds: float = period.get("PeriodValue", 1) * _UNITS[period["PeriodUnit"]]
    return seconds if seconds > 0 else None
