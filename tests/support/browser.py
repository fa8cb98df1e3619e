"""Debian's Chromium under Playwright, and a page that notes every complaint of the browser.

Playwright's own browsers are downloaded from a host that CI does not reach; a browser of the distribution does as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SCREENSHOTS = "SEGUE_SCREENSHOTS"
"""A folder: pictures for the documents are written there."""

CONFIRM_WITHIN_MS = 30_000


def find_chromium() -> str:
    """The one of this machine; without it tests are skipped, or fail where `SEGUE_REQUIRE` names `browser`."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        if "browser" in os.environ.get("SEGUE_REQUIRE", "").split(","):
            pytest.fail("SEGUE_REQUIRE demands a browser; on Debian: apt-get install chromium")
        pytest.skip("no browser; on Debian: apt-get install chromium")
    return program


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser without a sandbox of its own (it runs as root in CI), that plays sound into nothing."""
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    program = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, url: str, **options: Any) -> tuple[BrowserContext, Page, list[str]]:
    """A page of its own, and what the browser complains of (errors and warnings of any kind)."""
    script = options.pop("script", None)
    viewport = {"width": options.pop("width", 1360), "height": options.pop("height", 900)}
    context = browser.new_context(viewport=viewport, **{"locale": "en-GB", "color_scheme": "light", **options})  # type: ignore[arg-type]
    context.set_default_timeout(CONFIRM_WITHIN_MS)
    if script is not None:
        context.add_init_script(script)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    return context, page, complaints


def shoot(page: Page, name: str) -> None:
    """A picture for the documents, where somebody asked for them."""
    folder = os.environ.get(SCREENSHOTS)
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")
