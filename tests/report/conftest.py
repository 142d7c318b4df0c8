from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("altair", reason='pip install -e ".[report]" brings it')


class Page(HTMLParser):
    """What a browser would make of a report: its elements and the words outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._hidden = ""
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag if tag in ("script", "style") else self._hidden
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += " " + " ".join(data.split())
        elif self._hidden == "script":
            self.scripts[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if attributes.get("id")]

    @property
    def specs(self) -> dict[str, Any]:
        """The charts by their places."""
        match = re.search(r'<script type="application/json" id="specs">(.*?)</script>', self.html, re.DOTALL)
        return {one["id"]: one["spec"] for one in json.loads(match[1])} if match else {}


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The bundle that pages have in common is made once, and not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def page_of() -> Any:
    from flywheel.report import write_report

    def page(run: Path, out: Path) -> Page:
        return Page(write_report(run, out).read_text("utf-8"))

    return page
