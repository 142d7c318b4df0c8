"""What a turn's bookkeeping costs, early in a run and late: ledger, store, curate, state and retention.

python -m benchmarks.bookkeeping [--generations 2000] [--keep-all]

The loop, runner, ledger, store and curate stage are real; the stages that need a model are fakes of a few
rows (``tests/support/fake_stages.py``), the curator keeps people's rows and the newest, and one turn in ten
is promoted.
The run lies in memory, nothing is synced, and the time is that of the CPU, so that neither the disk nor
other processes are in it. Each figure is the fastest of up to twenty rounds of ten turns that end at that
generation, as others on the machine only ever add; the ratio is to the first of them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel import loop
from flywheel.records import Verdict
from flywheel.runtime.context import StageOutput
from flywheel.storage.events import GateFacts
from tests.support import fake_stages

ROUND, ROUNDS = 10, 20
MARKS = (100, 500, 1000, 2000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--generations", type=int, default=max(MARKS))
    parser.add_argument("--keep-all", action="store_true", help="without retention")
    options = parser.parse_args()
    began = turn_times(
        options.generations, fake_stages.KEEP_ALL if options.keep_all else {"promoted": True, "last": 3}
    )
    rounds = [
        1000 * (began[k] - began[k - ROUND]) / ROUND for k in range(ROUND, options.generations + 1, ROUND)
    ]
    print("| generation | CPU ms a turn | ratio |\n| --- | --- | --- |")
    first = 0.0
    for mark in (mark for mark in MARKS if mark <= options.generations):
        last = mark // ROUND
        milliseconds = min(rounds[max(0, last - ROUNDS) : last])
        first = first or milliseconds
        print(f"| {mark:,} | {milliseconds:.2f} | {milliseconds / first:.2f} |", flush=True)


def turn_times(generations: int, retention: dict[str, Any]) -> list[float]:
    """When each turn began, and when the last one had ended."""
    memory, began = "/dev/shm" if os.path.isdir("/dev/shm") else None, list[float]()
    turn = loop.turn

    def timed(*args: Any) -> None:
        began.append(time.process_time())
        turn(*args)

    with tempfile.TemporaryDirectory(dir=memory) as folder, fake_stages.on_strings() as patch:
        patch.setattr(loop, "turn", timed)
        fake_stages.put(patch, gate)
        patch.setattr(fake_stages.FakeComponents, "curate", newest)
        fake_stages.play(Path(folder, "fake", "run"), generations, retention=retention)
        began.append(time.process_time())
    return began


def gate(ctx: Any, **_: Any) -> Any:
    return StageOutput({}, GateFacts(verdict=Verdict(ctx.generation % ROUND == 0, "one in ten", 0.05)))


def newest(self: object, samples: pa.Table, carry: Any, key: Any) -> Any:
    made_in = samples["made_in"].to_numpy()
    keep = np.equal(samples["origin"].to_numpy(), "human") | (made_in == made_in.max())
    ones = np.ones(len(keep))
    columns = {"id": samples["id"], "keep": keep, "reason": ["newest"] * len(keep), "weight": ones}
    return columns | {"count": keep.astype(int)}, {}


if __name__ == "__main__":
    main()
