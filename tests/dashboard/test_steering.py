"""Acts from outside: each does what it says, and nobody does one who should not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import resilience as rs
from dashboard.asking import TOKEN, WAYS, ask, payments, steer
from resilience.dashboard import Dashboard, app

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def page(registry: rs.Registry) -> Iterator[Dashboard]:
    with app(registry, steering=True, token=TOKEN) as made:
        yield made


ORDER = {"policy": "payments", "act": "force_open"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("act", "state"), [("force_open", "forced_open"), ("disable", "disabled"), ("reset", "closed")]
)
def test_an_act_is_done_and_logged(
    page: Dashboard, registry: rs.Registry, way: str, act: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer tells the state; the log tells who did what."""
    policy = payments(registry)
    policy.breaker.trip()  # type: ignore[union-attr]
    with caplog.at_level(logging.WARNING, "resilience"):
        found = steer(page, {"policy": "payments", "act": act}, way=way)
    assert (found.status, found.data) == (200, {"policy": "payments", "act": act, "circuits": 1, "states": [state]})
    assert str(policy.breaker.state) == state  # type: ignore[union-attr]
    (line,) = [record for record in caplog.records if "circuit of" in record.getMessage()]
    assert line.getMessage() == f"dashboard: 192.0.2.7: {act} the circuit of 'payments'"
    assert line.__dict__["act"] == act


def test_an_act_on_circuits_by_key_is_on_all_that_are_known(page: Dashboard, registry: rs.Registry) -> None:
    """And on the policy's own keys only."""
    breaker = rs.PerKey(rs.CircuitBreaker(), key=str)
    kept = rs.Policy("shards", breaker=breaker, registry=registry)
    for key in "abc":
        assert str(breaker[key].state) == "closed"
    found = steer(page, {"policy": "shards", "act": "force_open"}).data
    assert found["states"] == ["forced_open"] * 3
    assert kept.name == "shards"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"token": "a-token-of-many-characterS"}, 401),
        ({"token": ""}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "file://127.0.0.1:8765"}, 403),
        ({"host": "[", "origin": "http://["}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 403),
        ({"host": ""}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_nobody_else_steers(
    page: Dashboard,
    registry: rs.Registry,
    way: str,
    headers: dict[str, str],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not without the token, not from a page of another origin, not under a name that was made to point here."""
    policy = payments(registry)
    found = steer(page, ORDER, way=way, **headers)
    assert found.status == status
    assert found.data["error"]
    assert "access-control-allow-origin" not in found.headers
    assert str(policy.breaker.state) == "closed"  # type: ignore[union-attr]
    assert "refused to steer" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_the_page_s_own_request_passes(page: Dashboard, registry: rs.Registry, way: str) -> None:
    """As a browser sends it."""
    kept = payments(registry)
    found = steer(
        page, ORDER, way=way,
        origin="http://127.0.0.1:8765", sec_fetch_site="same-origin", content_type="application/json; charset=utf-8",
    )  # fmt: skip
    assert found.status == 200
    assert kept.name == "payments"


def test_behind_a_name_of_its_own_it_is_steered_when_the_name_is_given(registry: rs.Registry) -> None:
    """TLS may end before it: only the host of the origin is compared."""
    kept = payments(registry)
    with app(registry, steering=True, token=TOKEN, hosts=["ops.example.org"]) as page:
        assert steer(page, ORDER, host="ops.example.org", origin="https://ops.example.org").status == 200
    assert kept.name == "payments"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"policy": "gone", "act": "reset"}, 404),
        ({"policy": ["payments"], "act": "reset"}, 404),
        ({"policy": "plain", "act": "reset"}, 409),
        ({"policy": "payments", "act": "trip"}, 400),
        ({"policy": "payments", "act": "__init__"}, 400),
        ({"policy": "payments", "act": ["reset"]}, 400),
        ({"policy": "payments"}, 400),
        ([], 400),
        (None, 400),
        ({"policy": "payments", "act": "reset", "more": "x" * 5000}, 413),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    page: Dashboard, registry: rs.Registry, way: str, order: Any, status: int
) -> None:
    """With words; and nothing is done."""
    kept = [payments(registry), rs.Policy("plain", registry=registry)]
    assert steer(page, order, way=way).status == status
    assert len(kept) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 4000])
def test_a_body_that_is_no_json_is_refused(page: Dashboard, way: str, body: bytes) -> None:
    """However odd it is."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    assert ask(page, "/steer", way=way, method="POST", body=body, headers=headers).status == 400


@pytest.mark.parametrize("way", WAYS)
def test_a_body_that_is_too_long_is_not_read_to_its_end(page: Dashboard, way: str) -> None:
    """Nor is it kept."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    found = ask(page, "/steer", way=way, method="POST", body=b" " * 200_000, headers=headers)
    assert found.status == 413


@pytest.mark.parametrize("way", WAYS)
def test_without_steering_nobody_steers(registry: rs.Registry, way: str) -> None:
    """It is off unless it was asked for, and the page has no means for it."""
    policy = payments(registry)
    with app(registry) as page:
        assert steer(page, ORDER, way=way).status == 403
        assert b'data-steering="no"' in ask(page).body
    assert str(policy.breaker.state) == "closed"  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_steering_is_done_by_post(page: Dashboard, method: str) -> None:
    """No link and no picture steers."""
    found = ask(page, "/steer", method=method, query=f"token={TOKEN}")
    assert (found.status, found.headers["allow"]) == (405, "POST")


def test_a_token_in_the_address_is_none(page: Dashboard, registry: rs.Registry) -> None:
    """Addresses are kept in logs and histories."""
    kept = payments(registry)
    found = ask(
        page, "/steer", method="POST", query=f"token={TOKEN}", body=b'{"policy":"payments","act":"reset"}',
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert found.status == 401
    assert kept.name == "payments"
