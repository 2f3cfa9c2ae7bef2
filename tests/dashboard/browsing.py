"""A real Chromium, and a real server for it to look at."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from resilience.dashboard.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resilience.dashboard import Dashboard

T = TypeVar("T")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
LOGS = {"browser": "ALL", "performance": "ALL"}


def missing() -> str | None:
    """What is lacking for these tests, if anything."""
    if CHROMIUM is None or DRIVER is None:
        return "no chromium and chromedriver here (Debian: apt install chromium chromium-driver)"
    try:
        import selenium
    except ImportError:
        return "no selenium here (pip install selenium)"
    del selenium
    return None


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser of its own, without history, extensions, or business of its own on the net."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", LOGS)
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@contextmanager
def served(page: Dashboard) -> Iterator[str]:
    """The address of the page, by HTTP on loopback."""
    server = serve(page.wsgi_app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        page.close()


def soon(check: Callable[[], T], seconds: float = 15.0) -> T:
    """What *check* returns, once it is true; fails after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < until, f"still {found!r} after {seconds} s"
        time.sleep(0.05)


class Browser:
    """What the tests do with a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, dark: bool = False, width: int = 1360, height: int = 950) -> None:
        """Load a page, with nothing kept of the one before."""
        self.driver.get("about:blank")
        self.logs()
        self.look(dark=dark, width=width, height=height)
        self.driver.get(url)
        self.js("localStorage.clear()")

    def look(self, *, dark: bool = False, width: int = 1360, height: int = 950) -> None:
        """Pretend to be such a screen."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def js(self, code: str, *values: object) -> Any:
        """The value of an expression, or of a script that returns one."""
        return self.driver.execute_script(code if "return " in code else f"return {code}", *values)

    def text(self, selector: str) -> list[str]:
        """The text of all that is shown of these."""
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility())"
            ".map((one) => one.innerText)", selector,
        )  # fmt: skip
        return found

    def click(self, selector: str) -> None:
        """As a person does: what is covered cannot be clicked."""
        self.find(selector).click()

    def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def logs(self) -> tuple[list[str], list[str]]:
        """Complaints on the console, and the addresses of all requests, since the last time."""
        said = [line["message"] for line in self.driver.get_log("browser")]
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return said, asked


def row(browser: Browser, name: str) -> str:
    """All that the row of a policy says; nothing if there is none."""
    found = browser.js(
        "return [...document.querySelectorAll('.row')].filter((row) => row.checkVisibility()"
        " && row.querySelector('.name')?.textContent === arguments[0]).map((row) => row.innerText)[0] ?? ''", name,
    )  # fmt: skip
    return " ".join(found.split())
