"""The report as a person sees it: opened from disk in Chromium, on a phone, a laptop and a large screen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

import flywheel
from flywheel.testing import CONFIG_DIR
from tests.support.chromium import HEIGHTS, Chromium, chromium

DRAWN = "html[data-drawn]"
"""Once all charts are."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(frontier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with a frontier that was given up once, with samples as its recipe shows them."""
    pytest.importorskip("altair")
    from flywheel.report import write_report

    viewer = flywheel.open_run(frontier_run, CONFIG_DIR).viewer()
    return write_report(frontier_run, tmp_path_factory.mktemp("report") / "report.html", viewer)


@pytest.fixture(scope="module")
def comparison(frontier_run: Path, greedy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs."""
    from flywheel.report import write_comparison

    return write_comparison([frontier_run, greedy_run], tmp_path_factory.mktemp("compared") / "report.html")


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_it_asks_no_host_says_no_error_fits_and_is_accessible(
    browser: Chromium, which: str, request: pytest.FixtureRequest
) -> None:
    looked = browser.open(request.getfixturevalue(which))
    page = looked.page
    page.wait_for_selector(DRAWN, state="attached")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.locator("svg, canvas").count() > 0, "it has charts"
    found = []
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(f"document.scrollingElement.scrollWidth <= {width}")  # once charts are refit
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme} {violation}" for violation in looked.violations()]
    assert found == []
    assert (browser.asked, looked.errors) == ([], [])


def test_details_are_reached_and_opened_by_the_keyboard(browser: Chromium, report: Path) -> None:
    page = browser.open(report).page
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    folded = "!document.activeElement.parentElement.open"
    before = page.evaluate(folded)
    page.keyboard.press("Enter")
    assert page.evaluate(folded) is not before


def test_it_prints_with_its_headline(browser: Chromium, report: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    page = browser.open(report).page
    headline = page.locator("h1").inner_text()
    text = pypdf.PdfReader(io.BytesIO(page.pdf())).pages[0].extract_text()
    assert " ".join(headline.split()) in " ".join(text.split())
