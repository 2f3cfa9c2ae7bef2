"""The picture of the guide: ``python tests/dashboard/screenshot.py docs/img``, with ``src`` and ``tests`` on the path.

The demo runs for half a minute first, so that there is trouble to see. Needs Chromium, as the tests do.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from pathlib import Path

from dashboard.browsing import Browser, chromium, missing, soon
from resilience.dashboard.command import main

WAIT = 30.0


def _take(browser: Browser, path: Path, width: int, height: int, *, dark: bool = False) -> None:
    browser.look(dark=dark, width=width, height=height)
    time.sleep(1.5)
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path.write_bytes(base64.b64decode(shot["data"]))
    sys.stderr.write(f"written: {path}, {path.stat().st_size} bytes\n")


def pictures(folder: Path, url: str) -> None:
    """Light and dark, one policy in detail, and on a phone."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        browser.open(url)
        soon(lambda: browser.text(".name"))
        time.sleep(WAIT)
        _take(browser, folder / "dashboard.png", 1280, 900)
        _take(browser, folder / "dashboard-dark.png", 1280, 900, dark=True)
        browser.click("#rows > :nth-child(4) .name")
        browser.js("document.querySelector('#rows > :nth-child(4)').scrollIntoView()")
        _take(browser, folder / "dashboard-detail.png", 1280, 550)
        browser.click("#rows > :nth-child(4) .name")
        browser.js("scrollTo(0, 0)")
        _take(browser, folder / "dashboard-phone.png", 375, 760)


if __name__ == "__main__":
    import _thread
    import threading

    lacking = missing()
    if lacking:
        sys.exit(lacking)

    def work() -> None:
        try:
            pictures(Path(sys.argv[1]), "http://127.0.0.1:8766/")
        finally:
            _thread.interrupt_main()

    threading.Thread(target=work).start()
    sys.exit(main(["--demo", "--port", "8766"]))
