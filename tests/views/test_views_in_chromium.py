"""What a recipe and its samples put into a page does nothing there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flywheel.views import STYLE, Html, Picture, View, html_of, view_of
from tests.support.chromium import chromium

HOSTILE = """
<script>parent.document.title = document.title = "taken"</script>
<img src="http://host.invalid/a.png" alt="" onerror="parent.document.title = 'taken'">
<link rel="stylesheet" href="http://host.invalid/a.css"><style>@import "http://host.invalid/b.css";</style>
<meta http-equiv="refresh" content="0;url=http://host.invalid/">
<iframe src="http://host.invalid/frame"></iframe><form action="http://host.invalid/form"><input></form>
<p id="seen" style="color: rgb(1, 2, 3)">seen</p>
"""


def test_hostile_html_and_samples_ask_for_nothing_and_run_nothing(tmp_path: Path) -> None:
    text = "</pre><script>document.title = 'taken'</script><img src=http://host.invalid/c.png>"
    views = [View(html=Html(HOSTILE)), view_of({"text": text}), View("", (Picture.of(np.eye(8)),))]
    body = "".join(html_of(view, "a sample") for view in views)
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>kept</title><style>{STYLE}</style>'
        f"<main><h1>Samples</h1>{body}</main>"
    )
    with chromium() as browser:
        looked = browser.open(page)
        looked.page.locator("iframe").scroll_into_view_if_needed()
        frame = looked.page.frame_locator("iframe")
        assert frame.locator("#seen").inner_text() == "seen"
        assert frame.locator("#seen").evaluate("p => getComputedStyle(p).color") == "rgb(1, 2, 3)"
        looked.page.wait_for_timeout(200)
        assert browser.asked == []
        assert looked.page.title() == "kept"
        assert looked.page.locator("pre").inner_text() == f"text: {text}"
        assert looked.page.locator("img").evaluate("image => [image.naturalWidth, image.width]") == [8, 96]
        assert looked.violations() == []
