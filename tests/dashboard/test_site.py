"""What is at which address, by WSGI and by ASGI, and how little a browser is allowed to do with it."""

from __future__ import annotations

import base64
import hashlib
import html
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilience as rs
from dashboard.asking import NASTY, WAYS, ask, exchange, payments
from resilience.dashboard import Dashboard, app
from resilience.dashboard.page import render

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def page(registry: rs.Registry) -> Iterator[Dashboard]:
    with app(registry, title="shop") as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("root", ["", "/ops/resilience"])
def test_the_page_the_data_and_nothing_else(page: Dashboard, registry: rs.Registry, way: str, root: str) -> None:
    """Wherever it is mounted."""
    kept = payments(registry)
    shown = ask(page, "/", way=way, root=root)
    assert shown.status == 200
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>shop</title>" in shown.body
    found = ask(page, "/data", way=way, root=root)
    assert found.headers["cache-control"] == "no-store"
    assert [one["name"] for one in found.data["policies"]] == ["payments"]
    assert 0 < found.data["took"] < 5
    for path in ("/favicon.ico", "/data/", "/x", "//", "/../etc/passwd"):
        missed = ask(page, path, way=way, root=root)
        assert missed.status == 404
        assert "the page is at /" in missed.data["error"]
    assert kept.name == "payments"


@pytest.mark.parametrize("way", WAYS)
def test_without_its_slash_the_page_is_found_all_the_same(page: Dashboard, way: str) -> None:
    """A relative redirect, which leads nowhere else, whatever the mount point is called."""
    found = ask(page, "", way=way, root="/ops/dash board")
    assert (found.status, found.headers["location"]) == (308, "dash%20board/")
    assert ask(page, "", way=way, root="//evil.example").headers["location"] == "evil.example/"
    assert ask(page, "", way="wsgi").status == 200  # at the root of a server there is nothing to add


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/", "/data"])
def test_head_is_get_without_the_body(page: Dashboard, path: str, way: str) -> None:
    """With the length that there would be."""
    head, full = ask(page, path, way=way, method="HEAD"), ask(page, path, way=way)
    assert head.body == b""
    assert head.status == 200
    assert abs(int(head.headers["content-length"]) - len(full.body)) < 100  # times differ by some digits
    assert int(full.headers["content-length"]) == len(full.body)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_reading_is_all_one_can_do(page: Dashboard, method: str, way: str) -> None:
    """The answer names what is allowed."""
    for path in ("/", "/data"):
        found = ask(page, path, way=way, method=method)
        assert (found.status, found.headers["allow"]) == (405, "GET, HEAD")


def test_the_page_is_sent_once(page: Dashboard) -> None:
    """A browser that has it is told so."""
    tag = ask(page).headers["etag"]
    again = ask(page, headers={"if-none-match": tag})
    assert (again.status, again.body) == (304, b"")
    assert ask(page, headers={"if-none-match": '"other"'}).status == 200


def test_nothing_but_the_page_s_own_script_and_style_runs(page: Dashboard) -> None:
    """The policy names both by their hashes, and allows no other source, frame, form, base or inserted markup."""
    shown = ask(page)
    text = shown.body.decode()
    policy = dict(part.strip().partition(" ")[::2] for part in shown.headers["content-security-policy"].split(";"))
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert " style=" not in text
    assert not re.search(r"\son\w+=", text)


def test_the_page_refers_to_nothing_outside_itself(page: Dashboard) -> None:
    """No address but the name of the format of pictures, no import, and no means to make markup from text."""
    text = ask(page).body.decode()
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|src=|innerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", text)


@given(st.text(max_size=40).filter(str.strip))
def test_a_title_is_text(title: str) -> None:
    """Whatever it is made of, marks of the template among it."""
    shown = render(title).body.decode()
    assert f"<title>{html.escape(title)}</title>" in shown.replace("\\ud", "\ud7ff") or not title.isprintable()
    assert shown.count("<script>") == shown.count("</script>") == shown.count("</style>") == 1


def test_marks_in_a_title_are_left_alone() -> None:
    """They are no marks there."""
    assert b"<title>{script} {style} \\1</title>" in render("{script} {style} \\1").body


def test_names_from_the_process_are_data_not_markup(page: Dashboard, registry: rs.Registry) -> None:
    """They are in the data only, which no browser takes for a page."""
    kept = payments(registry, NASTY)
    assert NASTY.encode() not in ask(page).body
    found = ask(page, "/data")
    assert found.headers["content-type"] == "application/json"
    assert found.data["policies"][0]["name"] == NASTY
    assert kept.name == NASTY


@pytest.mark.parametrize("way", WAYS)
def test_settings_come_when_asked_for(page: Dashboard, registry: rs.Registry, way: str) -> None:
    """By name; names that there are not are no error."""
    kept = [payments(registry, "a b"), payments(registry, "c")]
    found = ask(page, "/data", way=way, query="settings=a+b&settings=%FF&settings=x&odd").data["policies"]
    assert ["settings" in one for one in found] == [True, False]
    assert len(kept) == 2


def test_a_failure_within_is_an_answer(page: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is told; the server it is mounted in hears nothing of it."""

    def broken(_: object) -> Any:
        raise RuntimeError("oh")

    monkeypatch.setattr(page, "_source", broken)
    found = ask(page, "/data")
    assert found.status == 500
    assert "oh" not in found.data["error"]


@pytest.mark.parametrize("way", WAYS)
def test_unknown_host_names_get_nothing(registry: rs.Registry, way: str) -> None:
    """Where names are given: a name that was made to point here reads nothing. Addresses always do."""
    with app(registry, hosts={"Ops.Example.org"}) as page:
        for host in ("ops.example.org", "OPS.example.org:8443", "127.0.0.1:1", "[::1]:80", "localhost", "192.0.2.1"):
            assert ask(page, "/data", way=way, headers={"host": host}).status == 200
        for host in ("evil.example", "ops.example.org.evil.example", "localhost.evil.example", "", "[", "a b"):
            found = ask(page, "/data", way=way, headers={"host": host})
            assert found.status == 403
            assert "policies" not in found.data


def test_servers_see_at_once_that_it_is_asgi_3(page: Dashboard) -> None:
    """By looking whether it is a coroutine function; a bound method of one looks to some like ASGI 2."""
    assert inspect.isfunction(page.asgi_app)
    assert inspect.iscoroutinefunction(page.asgi_app)


def test_an_asgi_server_is_greeted_and_left(page: Dashboard) -> None:
    """The lifespan protocol; other protocols than HTTP are declined."""
    sent = exchange(page, {"type": "lifespan"}, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    assert [one["type"] for one in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent = exchange(page, {"type": "websocket", "path": "/"}, [{"type": "websocket.connect"}])
    assert [one["type"] for one in sent] == ["websocket.close"]


def test_an_older_asgi_server_cuts_the_mount_point_off() -> None:
    """Then the path is taken as it is."""
    with app(rs.Registry()) as page:
        scope = {"type": "http", "method": "GET", "path": "/data", "root_path": "/ops", "headers": []}
        sent = exchange(page, scope, [{"type": "http.request"}])
        assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"registry": {}}, TypeError),
        ({"title": ""}, ValueError),
        ({"title": 3}, TypeError),
        ({"hosts": "ops.example.org"}, TypeError),
        ({"hosts": [3]}, TypeError),
        ({"steering": 1, "token": "x" * 16}, TypeError),
        ({"steering": True}, ValueError),
        ({"token": "x" * 16}, ValueError),
        ({"steering": True, "token": "x" * 15}, ValueError),
        ({"steering": True, "token": "x" * 15 + " "}, ValueError),
        ({"steering": True, "token": "ü" * 16}, ValueError),
        ({"steering": True, "token": b"x" * 16}, TypeError),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], kind: type[Exception]) -> None:
    """When it is made, and not when somebody looks; and a token is not repeated in the message."""
    with pytest.raises(kind) as caught:
        app(**settings)
    assert "xxxxxxxx" not in str(caught.value)
