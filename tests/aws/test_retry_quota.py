from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from resilience.aws.kinds import Kind
from resilience.aws.retry_quota import RetryQuota


@pytest.mark.parametrize("bad", [{"capacity": 0}, {"cost": 0}, {"capacity": 4}, {"timeout_cost": 501}, {"success": -1}])
def test_bad_quotas(bad: dict[str, Any]) -> None:
    """A quota that could not work is refused."""
    with pytest.raises(rs.ConfigError):
        RetryQuota(**bad)


@given(
    st.integers(14, 60),
    st.lists(st.sampled_from(list(Kind)) | st.integers(0, 2), max_size=60),
)
def test_quota_bounds(capacity: int, steps: list[Kind | int]) -> None:
    """The quota is never below 0 nor above its capacity, and no more is given back than was taken."""
    quota = RetryQuota(capacity, timeout_cost=10)
    last = 0
    for step in steps:
        if isinstance(step, Kind):
            before = quota.available
            taken = quota.acquire(step)
            assert taken in (0, quota.cost_of(step)) and quota.available == before - taken
            assert taken or before < quota.cost_of(step)
            last = taken or last
        else:
            quota.release(0 if step == 0 else last)
        counts = quota.counters
        assert 0 <= quota.available <= capacity
        assert counts["returned"] <= counts["taken"]
        assert quota.available == capacity - counts["taken"] + counts["returned"]


def test_quota_from_threads(switch_often: None) -> None:
    """Under contention no token is lost or made."""
    quota = RetryQuota(1000, cost=7)

    def work() -> None:
        for _ in range(300):
            quota.release(quota.acquire(Kind.TRANSIENT) or 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = quota.counters
    assert quota.available == 1000 - counts["taken"] + counts["returned"]
