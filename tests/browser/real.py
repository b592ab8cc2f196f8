"""A real server and a real browser for the editor's tests, and what opens them. Knows no test."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hands import until
from playwright.sync_api import Browser, BrowserContext, Page

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NO_BROWSER = (
    "The editor's tests need Chromium. Install it (apt install chromium, or: python -m playwright install chromium) "
    "or name it in KINEOGRAPH_CHROMIUM; ./check does not pass without."
)


def chromium() -> str | None:
    """Chromium's path: named, installed in the system, or None for the one that playwright installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("KINEOGRAPH_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Served:
    """``kineograph serve`` in a process of its own, which a test may stop and start again."""

    def __init__(self, data: Path, port: int = 0) -> None:
        self.data, self.port, self.process = data, port, None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "kineograph", "serve", "--port", str(self.port), "--data", str(self.data)]
        command += ["--store", str(self.data.parent / "store")]
        self.log = (self.data.parent / f"{self.data.name}.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.url = self._wait()
        self.port = int(self.url.rsplit(":", 1)[1])

    def _wait(self) -> str:
        for _ in range(300):
            text = Path(self.log.name).read_text(encoding="utf-8")
            if found := re.search(r"http://[\w.]+:\d+", text):
                return found.group()
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError(f"the server did not start: {text}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


@contextmanager
def profile(browser: Browser, url: str, **options: object) -> Iterator[BrowserContext]:
    """A browser profile in which every request to elsewhere, and every error of the page, fails the test."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, **options)
    context.set_default_timeout(60_000)
    errors: list[str] = []
    context.on("request", lambda request: errors.append(request.url) if not _here(request.url, url) else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context
    context.close()
    assert not errors


def _here(asked: str, url: str) -> bool:
    return asked.startswith((url, "data:", "blob:"))


def opened(context: BrowserContext, url: str) -> Page:
    """The editor with its first workflow on the canvas."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(".react-flow__node")
    until(page, "document.querySelectorAll('.library .entry').length > 20")
    return page
