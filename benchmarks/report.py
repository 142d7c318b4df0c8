"""What a report of a long run takes: time to make it, its size, and the time until a browser has drawn it.

python -m benchmarks.report [--generations 50] [--samples 1000000] [--run RUN]

The run is synthetic (``benchmarks/ledger.py``), its ledger valid; samples, scores, decisions, outcomes and
training curves are real files of the size of a real run. ``make`` is a process of its own, from its start
to the file; the fastest of three. The CPU time beside it is what is left where others do not disturb.
The bundle of Vega is in the user's cache after the first time. Opening needs Chromium and Playwright
(``pip install playwright``): from the navigation to the last chart, and all other requests of the page.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.ledger import synthetic_run
from flywheel.curves import as_table
from flywheel.storage.store import Store
from flywheel.tables import DECISIONS, with_provenance

SUITES = {"dev": 250, "gate": 750}
STEPS = 400


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--generations", type=int, default=50)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--run", type=Path, help="a run that is there, in place of a synthetic one")
    options = parser.parse_args()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        run = options.run or made(Path(folder, "long", "run"), options.generations, options.samples)
        page = Path(folder, "report.html")
        seconds, processor = zip(*(making(run, page) for _ in range(3)), strict=True)
        print("| make, s | CPU, s | page, MB | open, s | requests |\n| --- | --- | --- | --- | --- |")
        opened = opening(page)
        size = page.stat().st_size / 1e6
        print(f"| {min(seconds):.2f} | {min(processor):.2f} | {size:.2f} | {opened} |")


def making(run: Path, page: Path) -> tuple[float, float]:
    """Wall and CPU time of the command."""
    command = [sys.executable, "-m", "flywheel", "report", str(run), "--out", str(page)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def opening(page: Path) -> str:
    """Time until a page is drawn, and how many requests it makes besides that for itself."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        return "no Chromium | -"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        seconds, requests = [], list[str]()
        for _ in range(3):
            tab = chromium.new_page()
            tab.on("request", lambda request: requests.append(request.url))
            began = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-drawn]")
            seconds.append(time.perf_counter() - began)
            tab.close()
        chromium.close()
    others = [url for url in requests if url != page.as_uri() and not url.startswith("data:")]
    return f"{min(seconds):.2f} | {len(others)}"


def made(folder: Path, generations: int, samples: int) -> Path:
    """A run of so many turns with so many samples in all."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def artifacts(store: Store, run: Path, number: int, maker: str) -> dict[str, str]:
        rows = samples // generations if number else 1000
        tables = batch(number, rows, maker, rng)
        tables |= {"outcomes": outcomes(rng), "train.curve": curve(number, rng)}
        if number == 0:
            tables |= {f"seed.suite_{name}": items(name, count) for name, count in SUITES.items()}
        return {name: store.put_table(table) for name, table in tables.items()}

    return synthetic_run(folder, generations, artifacts, **{name: name for name in SUITES})


def batch(number: int, rows: int, maker: str, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Samples with texts of some length, their scores, decisions and corpus."""
    words = rng.integers(0, 10**12, rows)
    prompts = [f"prompt {k} of {number}: how much is {word} + {k}?" for k, word in enumerate(words)]
    answers = [f"It is {word + k}, since {word} and {k} are added." for k, word in enumerate(words)]
    origin = {"origin": "generated", "made_in": number, "made_by": maker, "key": number}
    if number == 0:
        origin = {"origin": "human", "made_in": 0, "made_by": None, "source": "a benchmark", "key": 0}
    made = with_provenance(
        pa.table({"prompt": prompts, "answer": answers}), own=("prompt", "answer"), **origin
    )
    scores = rng.random(rows)
    keep = scores > 0.3
    reason = np.where(keep, "top 0.7 by confidence", "below threshold")
    decisions = {"keep": keep, "reason": reason, "weight": np.ones(rows), "count": keep.astype(int)}
    corpus = pa.table({"id": made["id"], "weight": np.ones(rows), "count": np.ones(rows, int)}).filter(keep)
    return {
        "samples": made,
        "scores": pa.table({"id": made["id"], "confidence": scores}),
        "decisions": pa.table({"id": made["id"], **decisions}).cast(DECISIONS),
        "corpus": corpus,
    }


def items(suite: str, count: int) -> pa.Table:
    names = [f"{suite}-{k}" for k in range(count)]
    return pa.table({"item": names, "question": [f"What is {k} + {k}?" for k in range(count)]})


def outcomes(rng: np.random.Generator) -> pa.Table:
    suite = [name for name, count in SUITES.items() for _ in range(count)]
    item = [f"{name}-{k}" for name, count in SUITES.items() for k in range(count)]
    none = pa.nulls(len(item), pa.string())
    scores = (rng.random(len(item)) < 0.9).astype(float)
    columns = {"suite": suite, "item": item, "cluster": item, "subject": ["weights"] * len(item)}
    return pa.table({**columns, "opponent": none, "score": scores})


def curve(number: int, rng: np.random.Generator) -> pa.Table:
    losses = np.exp(-np.arange(STEPS) / 100) + 0.05 * rng.random(STEPS) + 0.1
    rows = [
        (step, name, value) for step in range(STEPS) for name, value in (("loss", losses[step]), ("lr", 0.01))
    ]
    return as_table(rows)


if __name__ == "__main__":
    main()
