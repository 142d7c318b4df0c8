"""How long a report takes to open in Chromium: ``python -m benchmarks.opening RUN|FILE.html [--times 5]``.

From the call to the last chart drawn, each time in a new window of a browser that is running. The target is
2 s for a run of 50 generations with 1,000,000 samples.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

DRAWN = "html[data-drawn]"


def seconds_to_open(browser: Browser, file: Path) -> float:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    began = time.perf_counter()
    page.goto(file.absolute().as_uri())
    page.wait_for_selector(DRAWN, state="attached")
    took = time.perf_counter() - began
    page.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="a report, or a run's directory that has one")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    file = options.report / "report.html" if options.report.is_dir() else options.report
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not file.is_file():
        sys.exit(f"Expected Chromium and a report, got {chromium} and {file}. apt-get install chromium.")
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        times = [seconds_to_open(browser, file) for _ in range(options.times)]
        browser.close()
    size = file.stat().st_size / 1e6
    print(
        f"{file}: {size:.1f} MB, opens in {statistics.median(times):.2f} s, of {options.times}: "
        + ", ".join(f"{t:.2f}" for t in sorted(times))
    )


if __name__ == "__main__":
    main()
