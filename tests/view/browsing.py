"""A real browser for tests of the page, and what they look at in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 60_000

expect.set_options(timeout=WAIT_MS)


def find_browser() -> str | None:
    """Return a browser of the system, or the one that playwright has downloaded."""
    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    if browser is None:
        with sync_playwright() as playwright:
            own = playwright.chromium.executable_path
        browser = own if Path(own).is_file() else None
    return browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Containers run tests as root, where the sandbox of Chromium does not work.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


class Show:
    """Shows project files in pages of the browser."""

    def __init__(self, browser: Browser, stack: contextlib.ExitStack) -> None:
        self._browser, self._stack = browser, stack
        self.errors: list[str] = []
        """Of the pages."""
        self.servers: list[subprocess.Popen[str]] = []

    def __call__(self, file: Path) -> Page:
        """Start a server for a project file, and return its page."""
        words = [sys.executable, "-m", "rvbuild", "view", "--no-open", "--trust", str(file)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RVBUILD_THREADS": "1"}
        server = self._stack.enter_context(subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment))
        self.servers.append(server)
        self._stack.callback(server.send_signal, signal.SIGINT)
        assert server.stderr is not None
        address = server.stderr.readline().split()[-1]
        page = self._browser.new_page(viewport={"width": 1400, "height": 900})
        self._stack.callback(page.close)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if "Content Security Policy" in message.text else None,
        )
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Give what shows a project file in a page of the browser; errors of the page fail the test."""
    with contextlib.ExitStack() as stack:
        shown = Show(browser, stack)
        yield shown
        assert shown.errors == []


def color(page: Page, layer: str, row: int, col: int) -> list[int] | None:
    """Return what a layer shows at a pixel of the scene, [red, green, blue, opacity]; None while there is no tile."""
    script = """([layer, row, col]) => {
        const tile = [...document.querySelectorAll(`.leaflet-rv-${layer}-pane img`)].find((img) => img.naturalWidth);
        if (!tile) return null;
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 256;
        const pen = canvas.getContext("2d");
        pen.drawImage(tile, 0, 0);
        return [...pen.getImageData(col, row, 1, 1).data];
    }"""
    rgba: list[int] | None = page.evaluate(script, [layer, row, col])
    return rgba


def wait_for_color(page: Page, layer: str, row: int, col: int, wanted: Callable[[list[int]], Any]) -> None:
    for _ in range(WAIT_MS // 100):
        rgba = color(page, layer, row, col)
        if rgba is not None and wanted(rgba):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{layer} at row {row}, column {col} stays {color(page, layer, row, col)}")
