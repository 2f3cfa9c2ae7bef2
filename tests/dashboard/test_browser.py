"""The page in a real Chromium: what it shows, that it shows what changes, and what can be done with it."""

from __future__ import annotations

import re
import threading
from typing import Any

import resilience as rs
from dashboard.asking import NASTY, TOKEN, attempt, payments, some
from dashboard.browsing import Browser, row, served, soon
from resilience.dashboard import Dashboard, app, snapshot


def test_every_policy_is_shown_and_nothing_from_elsewhere(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Those in trouble first. No complaint on the console, no request to another place, and markup in names is text."""
    kept = some(registry)
    browser.open(url)
    names = soon(lambda: browser.text(".name") if len(browser.text(".name")) == len(kept) else [])
    assert names == ["dead", NASTY, "orders", "idle"] or names == ["dead", NASTY, "idle", "orders"]
    assert browser.js("document.title") == "shop"
    assert not browser.js("document.querySelectorAll('img').length")
    soon(lambda: "circuit open for" in row(browser, "dead"))
    assert "circuit disabled" in row(browser, NASTY)
    said, asked = browser.logs()
    assert said == []
    assert {address.split("?")[0] for address in asked if not address.startswith("data:")} == {url, f"{url}data"}


def test_a_circuit_that_opens_is_seen(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Within seconds, without a reload: in the row, among the events, and for those who listen to the page."""
    policy = payments(registry)
    browser.open(url)
    soon(lambda: "circuit closed" in row(browser, "payments"))
    soon(lambda: browser.text("#live-words") == ["live"])
    attempt(policy, 5)
    soon(lambda: "trouble" in row(browser, "payments"))
    assert "circuit open for" in row(browser, "payments")
    assert "next probe in" in row(browser, "payments")
    assert any("the circuit is open, no longer closed" in line for line in browser.text("#events li"))
    assert "the circuit is open" in browser.js("document.getElementById('said').textContent")


def test_rates_are_those_of_the_calls_that_are_made(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Of calls begun while the page is looking."""
    policy = rs.Policy("db", registry=registry)
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.02):
            policy.call(lambda: None)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        browser.open(url)
        soon(lambda: re.fullmatch(r"[34]\d(\.\d)?|50", "".join(browser.text(".rate b"))))
        assert browser.text(".success b") == ["100\xa0%"]
        assert len(browser.js("document.querySelector('.rate .bars').getAttribute('d')")) > 20
        assert len(browser.js("document.querySelector('.latency .bars').getAttribute('d')")) > 20
    finally:
        stop.set()
        thread.join()


def test_details_show_parts_settings_and_the_timeout(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Opened and closed by keyboard."""
    from selenium.webdriver.common.keys import Keys

    kept = some(registry)
    browser.open(url)
    soon(lambda: row(browser, "orders"))
    button = next(one for one in browser.driver.find_elements("css selector", ".name") if one.text == "orders")
    button.send_keys(Keys.ENTER)
    soon(lambda: "PercentileTimeout" in row(browser, "orders"))
    said = row(browser, "orders")
    for words in (
        "RetryBudget(7.0)",
        "Bulkhead(4, queue=9)",
        "Objective: 99",
        "burn, 5 min",
        "succeeded 0 300",
        "timeout 50 ms: from",
    ):
        assert words in said
    assert button.get_attribute("aria-expanded") == "true"
    button.send_keys(Keys.SPACE)
    assert "PercentileTimeout" not in row(browser, "orders")
    assert len(kept) == 4


def test_search_and_filters_leave_what_fits(browser: Browser, registry: rs.Registry, url: str) -> None:
    """By name and by health; and there is a way back."""
    from selenium.webdriver.common.keys import Keys

    kept = some(registry)
    browser.open(url)
    soon(lambda: len(browser.text(".name")) == 4)
    browser.find("body").send_keys("/")
    browser.driver.switch_to.active_element.send_keys("ORD")
    assert browser.text(".name") == ["orders"]
    browser.find("#search").send_keys(Keys.BACKSPACE * 3)
    browser.click("#healths [data-health=trouble]")
    assert browser.text(".name") == ["dead"]
    browser.write("#search", "nothing of this name")
    assert browser.text("#nothing")
    browser.click("#show-all")
    assert len(browser.text(".name")) == len(kept)


def test_without_policies_the_page_says_what_to_do(browser: Browser, url: str) -> None:
    """In words and in code."""
    browser.open(url)
    (said,) = soon(lambda: browser.text("#empty"))
    assert "rs.Policy(" in said
    assert "resilience dashboard --demo" in said


def test_steering_needs_the_token_and_does_what_it_says(browser: Browser, registry: rs.Registry, url: str) -> None:
    """A wrong one is refused, and nothing changes; the right one is asked for once."""
    policy = payments(registry)
    assert policy.breaker is not None
    browser.open(url)
    soon(lambda: browser.text(".name"))
    browser.click(".name")
    browser.click("[data-act=force_open]")
    browser.write("#token", "not-the-token-at-all")
    browser.click("#steer-yes")
    soon(lambda: browser.text("#steer-error") == ["This is not the token."])
    assert str(policy.breaker.state) == "closed"
    browser.write("#token", TOKEN)
    browser.click("#steer-yes")
    soon(lambda: "circuit forced open" in row(browser, "payments"))
    assert str(policy.breaker.state) == "forced_open"
    browser.click("[data-act=reset]")
    assert not browser.find("#token").is_displayed()
    browser.click("#steer-yes")
    soon(lambda: "circuit closed" in row(browser, "payments"))
    assert str(policy.breaker.state) == "closed"
    assert TOKEN not in browser.js("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")


def test_a_page_that_is_read_only_has_no_means_to_steer(browser: Browser, registry: rs.Registry) -> None:
    """Which is so unless it was asked for."""
    kept = payments(registry)
    with served(app(registry)) as url:
        browser.open(url)
        soon(lambda: browser.text(".name"))
        browser.click(".name")
        soon(lambda: browser.text(".detail"))
        assert browser.text("[data-act]") == []
    assert kept.name == "payments"


def test_when_the_process_is_gone_the_page_says_so(browser: Browser, registry: rs.Registry) -> None:
    """And since when; what was last known stays, and names of other origins are still not asked for anything."""
    kept = payments(registry)
    with served(app(registry)) as url:
        browser.open(url)
        soon(lambda: browser.text("#live-words") == ["live"])
    (said,) = soon(lambda: browser.text("#lost"))
    assert re.match(r"No answer since \d\d:\d\d:\d\d", said)
    assert browser.text("#live-words") == ["no answer"]
    assert row(browser, "payments")
    assert kept.name == "payments"


def test_a_tab_that_nobody_sees_asks_nothing(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Hidden, it is silent; seen again, it asks at once."""
    kept = payments(registry)
    browser.open(url)
    soon(lambda: browser.text(".name"))
    browser.js(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); return 1"
    )
    soon(lambda: browser.text("#live-words") == ["paused"])
    browser.logs()
    threading.Event().wait(1.6)
    assert len(browser.logs()[1]) <= 1  # one may have been under way
    browser.js("delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); return 1")
    soon(lambda: browser.logs()[1])
    assert kept.name == "payments"


def test_of_several_processes_at_one_address_one_is_shown(browser: Browser, registry: rs.Registry) -> None:
    """And it is said that there are others. Their numbers are not mixed; when the one is gone, another is shown."""
    kept = payments(registry)
    turn = 0
    alone = threading.Event()

    def source(_: object) -> dict[str, Any]:
        nonlocal turn
        turn += 1
        found = snapshot(registry)
        if turn % 2 == 0 or alone.is_set():
            found["process"] |= {"id": "other-4242", "pid": 4242}
            found["policies"][0]["name"] = "another"
        return found

    with served(Dashboard(source, title="shop")) as url:
        browser.open(url)
        soon(lambda: browser.text("#others"))
        assert "2 processes answer here" in browser.text("#others")[0]
        assert browser.text(".name") == ["payments"]
        alone.set()
        soon(lambda: browser.text(".name") == ["another"])
        soon(lambda: not browser.text("#others"))
    assert kept.name == "payments"
