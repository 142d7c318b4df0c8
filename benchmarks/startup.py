"""How fast the command line answers where no model is involved: medians of whole processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 9
BARE = [sys.executable, "-c", "pass"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*command("recipe=mnist", "debug=tiny", "log=quiet", "name=run", f"runs_dir={folder}")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        run = f"{folder}/mnist/run"
        rows = {
            "bare python": (BARE, None),
            "--help": (command("--help"), 0.5),
            "status RUN --json": (command("status", run, "--json"), 0.5),
            "status RUN": (command("status", run), 0.5),
            "lineage RUN": (command("lineage", run), 0.5),
            "verify RUN": (command("verify", run), 0.5),
            "recipes": (command("recipes"), 0.5),
            "doctor": (command("doctor"), 0.5),
            "wrong key": (command("recipe=mnist", "sed=1"), 1.0),
            "wrong value": (command("recipe=mnist", "settings.lr=abc"), 1.0),
            "unknown recipe": (command("recipe=mnits"), 1.0),
        }
        print("| command | median, s | target, s |\n| --- | --- | --- |")
        for name, (words, target) in rows.items():
            print(f"| {name} | {median_seconds(words):.3f} | {target or ''} |", flush=True)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flywheel", *words]


def median_seconds(words: list[str]) -> float:
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(words, check=False, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
