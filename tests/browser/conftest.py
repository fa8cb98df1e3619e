"""One browser for each file of tests, and a page each; a complaint of the browser fails the test that caused it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.support.browser import chromium, open_page
from tests.support.served_console import ServedConsole

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Open a page; whatever it complained of is a failure, unless the test empties the list `page.complaints`."""
    opened = []

    def visit(url: str, **options: Any) -> Page:
        context, page, complaints = open_page(browser, url, **options)
        page.complaints = complaints  # type: ignore[attr-defined]
        opened.append((context, complaints))
        return page

    yield visit
    for context, _ in opened:
        context.close()
    assert [said for _, complaints in opened for said in complaints] == []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedConsole]:
    made = ServedConsole(tmp_path)
    yield made
    made.stop()
