"""How the page looks in a real Chromium: on every screen, in light and dark, for everybody, and with much on it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from dashboard.asking import attempt, full, payments, some
from dashboard.browsing import Browser, soon

if TYPE_CHECKING:
    import resilience as rs

WIDTHS = (375, 768, 1024, 1360, 1920)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_at_the_side(browser: Browser, registry: rs.Registry, url: str, width: int) -> None:
    """On a phone, a tablet, a screen; with long names, an open row, and with nothing at all."""
    browser.open(url, width=width)
    soon(lambda: browser.text("#empty"))
    assert browser.js("document.documentElement.scrollWidth") <= width
    kept = [*some(registry), payments(registry, "a-name-without-any-place-to-break-" * 6)]
    attempt(kept[-1], 3)
    soon(lambda: len(browser.text(".name")) == len(kept))
    for button in browser.driver.find_elements("css selector", ".name")[:3]:
        button.click()
    soon(lambda: len(browser.text(".parts li")) >= 3)
    assert browser.js("document.documentElement.scrollWidth") <= width


CONTRAST = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const parent = node.parentElement;
  const hidden = !parent.checkVisibility() || parent.closest('.unseen, .skip, script, style');
  if (hidden || !node.textContent.trim()) continue;
  const style = getComputedStyle(parent);
  const ink = parse(parent.closest('svg') ? style.fill : style.color);
  const [a, b] = [light(ink), light(ground(parent))].sort((x, y) => y - x);
  found.push([node.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)]);
}
return found;
"""

NAMES = """
return [...document.querySelectorAll('button, input, select, a, svg[role=img]')].filter((one) => {
  if (!one.checkVisibility()) return false;
  const label = one.getAttribute('aria-label') || one.labels?.[0]?.textContent || one.textContent;
  return !label.trim();
}).map((one) => one.outerHTML.slice(0, 100));
"""


@pytest.mark.parametrize("chosen", [False, True], ids=["system", "chosen"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everybody_can_read_it(browser: Browser, registry: rs.Registry, url: str, *, dark: bool, chosen: bool) -> None:
    """Light and dark, by the system's setting and against it: all text has a contrast of 4.5, all has a name."""
    kept = some(registry)
    browser.open(url, dark=dark != chosen)
    if chosen:
        browser.js("(document.getElementById('theme').value = arguments[0], 1)", "dark" if dark else "light")
        browser.js("document.getElementById('theme').dispatchEvent(new Event('change'))")
    soon(lambda: len(browser.text(".name")) == len(kept))
    for button in browser.driver.find_elements("css selector", ".name"):
        button.click()
    soon(lambda: len(browser.text(".parts li")) >= 8)
    browser.click("[data-act=force_open]")
    paper = browser.js("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(19, 23, 27)" if dark else "rgb(255, 255, 255)")
    found: list[Any] = soon(lambda: browser.js(CONTRAST))
    assert len(found) > 80
    assert [one for one in found if one[1] < 4.5] == []
    assert browser.js(NAMES) == []


def test_the_choice_of_colours_stays(browser: Browser, url: str) -> None:
    """For the next time the page is opened in this browser."""
    browser.open(url)
    browser.js(
        "const at = document.getElementById('theme'); at.value = 'dark';at.dispatchEvent(new Event('change')); return 1"
    )
    browser.driver.refresh()
    assert browser.js("document.documentElement.dataset.theme") == "dark"
    browser.js("localStorage.clear()")


def test_a_thousand_policies_stay_usable(browser: Browser, registry: rs.Registry, url: str) -> None:
    """Few rows are built, the page never stands still for a quarter of a second, and every row can be found."""
    kept = [full(registry, f"service {number:04}") for number in range(1000)]
    for policy in kept:
        policy._plan.stats._good.add([10**6 * (10 + number) for number in range(40)])
    browser.open(url)
    soon(lambda: browser.text("#shown") == ["1,000"], 30.0)
    soon(lambda: browser.text(".name"))
    assert browser.js("document.querySelectorAll('.line').length") < 60
    frames = browser.driver.execute_async_script(
        "const done = arguments[0]; const times = []; const began = performance.now();"
        "const next = (now) => { times.push(now); now - began < 4000 ? requestAnimationFrame(next) : done(times) };"
        "requestAnimationFrame(next)"
    )
    longest = max(after - before for before, after in itertools.pairwise(frames))
    assert longest < 250, f"the page stood still for {longest:.0f} ms"
    browser.write("#search", "service 0999")
    soon(lambda: browser.text(".name") == ["service 0999"])
    assert len(kept) == 1000
