"""One server and one browser for all of the editor's tests, a fresh browser profile for each."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from real import FLAGS, NO_BROWSER, Served, chromium, opened, profile

from kineograph.cli import web_build

expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Served]:
    assert web_build.built() is not None, web_build.how()
    served = Served(tmp_path_factory.mktemp("editor") / "data")
    yield served
    served.stop()


@pytest.fixture(scope="module")  # playwright's event loop runs on this thread, where later tests want their own
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        except Exception as error:  # noqa: BLE001  whatever the reason is, the sentence must say what to do
            pytest.fail(f"{NO_BROWSER} ({str(error).splitlines()[0]})", pytrace=False)
        yield opened
        opened.close()


@pytest.fixture
def context(browser, server) -> Iterator[BrowserContext]:
    with profile(browser, server.url, color_scheme="dark") as made:
        yield made


@pytest.fixture
def page(context, server) -> Page:
    return opened(context, server.url)
