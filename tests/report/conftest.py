"""Chromium, where playwright and a browser of the system are there."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

WIDTHS = (360, 768, 1440)
Opened = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's browser, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Opened]:
    """Opens a page, at a width, and sees at the end that nothing was said on the console and nothing asked
    of the network."""
    contexts, wrong = [], list[str]()

    def page_of(url: str, width: int = 1440, allowed: str = "file://", **settings: Any) -> Any:
        settings = {"reduced_motion": "reduce"} | settings
        context = chromium.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("request", lambda asked: wrong.append(asked.url) if foreign(asked.url, allowed) else None)
        page.goto(url)
        return page

    yield page_of
    for context in contexts:
        context.close()
    assert not wrong


def foreign(url: str, allowed: str) -> bool:
    return not url.startswith((allowed, "data:", "blob:"))


def axe(page: Any) -> list[str]:
    """What axe finds wrong, as sentences."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {[node['html'][:150] for node in v['nodes']][:3]}" for v in found]


def broken_images(page: Any) -> int:
    return int(page.evaluate("[...document.images].filter((i) => !i.complete || !i.naturalWidth).length"))


def scrolls_sideways(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
