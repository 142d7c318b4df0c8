"""What a tracker costs: a run that is followed against the same run that is not.

    python benchmarks/tracking.py                                # addition, shortened: 3 pairs
    python benchmarks/tracking.py --tracker csv --pairs 5
    python benchmarks/tracking.py --whole --pairs 5 --threads 2 --first-seed 20 --keep runs/tracking
    python benchmarks/tracking.py --start 5                      # how much later a run starts

Both run in turn in one process, now one first, now the other, imports and data loaded, with a seed for each
pair. The genesis of ``addition`` is cut to a tenth and there is one turn, so that what is once a run weighs
more than in a whole one (``--whole``). Prints by seed the ratios of wall and CPU time, which differ by some
percent from run to run as the machine does; and two shares that hardly do: the CPU time of the tracker's
thread, and of the processes that it started (``wandb-core``), each of the CPU time of the run without a
tracker. The start is measured in new processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

SHORT = {"recipe": "addition", "generations": 1, "genesis_settings.batches": 240, "task.sealed_items": 8}
TINY = ("recipe=addition", "debug=tiny", "generations=0", "log=quiet")
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tracker", default="wandb")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--start", type=int, metavar="N", help="measure the start, N times each")
    parser.add_argument("--whole", action="store_true", help="do not shorten the run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs, for benchmarks/addition.py")
    options = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    if options.start:
        measure_start(options.tracker, options.start)
    else:
        config = {**({"recipe": "addition"} if options.whole else SHORT), "threads": options.threads}
        seeds = range(options.first_seed, options.first_seed + options.pairs)
        measure_runs(options.tracker, seeds, config, options.keep)


def measure_runs(tracker: str, seeds: Sequence[int], config: Mapping[str, object], keep: Path | None) -> None:
    """Print a row a seed."""
    for one in (tracker, "none"):
        follow(one, {**SHORT, "debug": "tiny", "generations": 0})  # warm up both
    print("| seed | with, s | without, s | wall | CPU | tracker's thread | its processes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows: list[tuple[float, ...]] = []
    seconds: list[tuple[float, float]] = []
    for seed in seeds:
        own = {**config, "seed": seed}
        theirs = follow("none", own, keep) if len(rows) % 2 else None  # whoever is first is at a disadvantage
        wall, cpu, thread, processes = follow(tracker, own, keep)
        theirs = theirs or follow("none", own, keep)
        rows.append((wall / theirs[0], cpu / theirs[1], thread / theirs[1], processes / theirs[1]))
        seconds.append((wall, theirs[0]))
        print(f"| {seed} | {wall:.2f} | {theirs[0]:.2f} | {shown(rows[-1])} |", flush=True)
    ours, others = (statistics.median(column) for column in zip(*seconds, strict=True))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"| median | {ours:.2f} | {others:.2f} | {shown(medians)} |")


def shown(row: Sequence[float]) -> str:
    wall, cpu, thread, processes = row
    return f"{wall:.4f} | {cpu:.4f} | {thread:.2%} | {processes:.2%}"


def follow(
    tracker: str, own: Mapping[str, object], keep: Path | None = None
) -> tuple[float, float, float, float]:
    """Seconds of a run: wall, CPU of this process, CPU of the tracker's thread and of other processes."""
    import flywheel
    from flywheel.trackers.queued import Queued

    seconds = []
    work = Queued._work

    def timed(queued: Queued) -> None:
        work(queued)
        seconds.append(time.thread_time())

    with tempfile.TemporaryDirectory() as folder, patch.object(Queued, "_work", timed):
        began, others = (time.perf_counter(), time.process_time()), children()
        config = {
            "tracker": tracker,
            "log": "quiet",
            "report": "none",
            "runs_dir": str(keep or folder),
            **({"name": f"{tracker}-s{own['seed']}"} if keep else {}),
            **own,
        }
        run = flywheel.run(config)
        ended = time.perf_counter(), time.process_time()
        assert run.status().state == "finished"
        wall, cpu = (after - before for after, before in zip(ended, began, strict=True))
        return wall, cpu, sum(seconds), children() - others


def children() -> float:
    """CPU seconds of all processes that are below this one, as far as they live."""
    parents: dict[int, tuple[int, float]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(place.parent.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    ours, found = {os.getpid()}, 0.0
    while below := {pid for pid, (parent, _) in parents.items() if parent in ours} - ours:
        found += sum(parents[pid][1] for pid in below)
        ours |= below
    return found


def measure_start(tracker: str, times: int) -> None:
    """Print how long after the process's start the seed samples, the first stage, are recorded."""
    print("| | with, s | without, s | later, s |")
    print("| --- | --- | --- | --- |")
    rows = []
    for number in range(times):
        order = (tracker, "none") if number % 2 else ("none", tracker)
        seconds = {name: started(name) for name in order}
        rows.append((seconds[tracker], seconds["none"], seconds[tracker] - seconds["none"]))
        print(f"| {number + 1} | {' | '.join(f'{value:.2f}' for value in rows[-1])} |", flush=True)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"| median | {' | '.join(f'{value:.2f}' for value in medians)} |")


def started(tracker: str) -> float:
    """Seconds until the first stage is recorded."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*TINY, f"tracker={tracker}", f"runs_dir={folder}"]
        began = time.time()
        subprocess.run([sys.executable, "-m", "flywheel", *words], check=True)
        (ledger,) = Path(folder).glob("*/*/ledger.jsonl")
        lines = map(json.loads, ledger.read_text().splitlines())
        first: float = next(line["time"] for line in lines if line["event"] == "stage")
        return first - began


if __name__ == "__main__":
    main()
