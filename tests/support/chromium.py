"""A headless Chromium to look at pages with, where one is installed: ``apt-get install chromium``.

axe-core, which checks that a page is accessible, is a file of npm's: ``npm install axe-core``, in the working
directory or where ``AXE_CORE`` says.
"""

from __future__ import annotations

import os
import shutil
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core")) / "axe.min.js"
HEIGHTS = {390: 844, 1280: 800, 1920: 1080}
"""Of a phone, a laptop and a large screen, by their width, in pixels."""


class Chromium:
    """A browser, and what its pages asked any host for, as the proxy saw it through which they go."""

    def __init__(self, browser: Any, port: int, asked: list[str]) -> None:
        self.browser, self.asked = browser, asked
        self._proxy = {"server": f"http://127.0.0.1:{port}"}

    def open(self, file: Path, width: int = 1280, **options: Any) -> Opened:
        """Open a page from disk."""
        size = {"width": width, "height": HEIGHTS[width]}
        context = self.browser.new_context(viewport=size, proxy=self._proxy, **options)
        return Opened(context.new_page(), file)


class Opened:
    """A page, and the errors that it told the console."""

    def __init__(self, page: Any, file: Path) -> None:
        self.page, self.errors = page, list[str]()
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        if AXE.is_file():
            page.add_init_script(path=AXE)  # as part of the browser, which no policy of the page concerns
        page.goto(file.as_uri())

    def violations(self) -> list[str]:
        """What axe-core finds, a line each. The test is skipped without it."""
        if not AXE.is_file():
            pytest.skip(f"Expected axe-core, found no {AXE}. npm install axe-core, or set AXE_CORE.")
        run = "axe.run({resultTypes: ['violations']}).then(result => result.violations)"
        found = self.page.evaluate(run)
        return [f"{v['id']}: {v['help']}, {node['target']}" for v in found for node in v["nodes"]]


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser. The test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason='pip install -e ".[dev]" brings it')
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("Expected Chromium, found none. apt-get install chromium.")
    with _proxy() as (port, asked), playwright.sync_playwright() as api:
        browser = api.chromium.launch(
            executable_path=path,
            args=["--no-sandbox"],  # root needs that
        )
        yield Chromium(browser, port, asked)
        browser.close()


@contextmanager
def _proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that notes the first line of each request, and answers none."""
    asked: list[str] = []

    class Note(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(self.rfile.readline().decode().strip())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Note) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()
