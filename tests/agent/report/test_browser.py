"""The report in a browser: no error, no request, no script, usable by keyboard on any width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from promptprobe.agent.report.comparison import save_comparison
from promptprobe.agent.report.page import save_report
from tests.agent.report.conftest import SCRIPT, hostile_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@contextmanager
def opened(browser: Browser, path: Path, **settings: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page, and all that it said on its console, asked of the network, or failed with."""
    context = browser.new_context(**settings)
    page, told = context.new_page(), list[str]()
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: told.extend(_outside(asked.url)))
    page.goto(path.as_uri())
    yield page, told
    context.close()


def _outside(url: str) -> list[str]:
    return [url] if url.startswith("http") else []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_report_opens_without_error_request_or_sideways_scrolling(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    path = save_report(hostile_run(tmp_path))
    size = {"width": width, "height": 900}
    with opened(browser, path, viewport=size, color_scheme=scheme) as (page, told):
        assert told == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.scripts.length") == 0
        assert SCRIPT in page.inner_text("h1")
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")


def test_the_report_can_be_used_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, save_report(hostile_run(tmp_path))) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.locator(".card summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator(".card details[open]").count() == 1
        assert page.get_by_text("What became of it").first.is_visible()


def test_a_comparison_opens_without_error_or_request(browser: Browser, tmp_path: Path) -> None:
    runs = [hostile_run(tmp_path / str(n), seed=n).run_dir for n in range(2)]
    path = save_comparison(tmp_path / "both.html", runs)
    with opened(browser, path, viewport={"width": 390, "height": 900}) as (page, told):
        assert told == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
