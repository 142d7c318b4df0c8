"""What a long ledger costs: status, trace, append and verify, on a synthetic run, valid to the last line.

python benchmarks/ledger.py [--generations 10 1000 10000] [--objects 300 --mib 2]

Each generation has the ten events of a turn, of the size that the recipe mnist writes; one in ten is
promoted, and each draws on the last six batches. ``trace`` asks for all ancestors of the newest sample.
``status`` and ``trace`` are whole processes, ``run.trace`` a call in one; the fastest of three. ``append``
is the median of 200 appends in a folder in memory, so that it is not the disk's time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import flywheel
from flywheel.storage import ids, ledger
from flywheel.storage.accountant import ErrorBudget
from flywheel.storage.ledger import Ledger, seal
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from flywheel.tables import DECISIONS, with_provenance


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--generations", type=int, nargs="+", default=[10, 1000, 10000])
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--mib", type=int, default=2)
    options = parser.parse_args()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    columns = ("status", "status --json", "trace --sample --up --json", "run.trace(...)")
    headings = ", s | ".join(columns)
    print(f"| generations | ledger, MB | {headings}, s | ancestors | append, ms | open to write, s |")
    print("| --- " * 9 + "|")
    for count in options.generations:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            run = synthetic_run(Path(folder), count)
            size = (run / "ledger.jsonl").stat().st_size / 1e6
            told = [seconds_of("status", str(run), *more) for more in ((), ("--json",))]
            opened = flywheel.open_run(run)
            newest = opened.samples()["id"][0].as_py()
            told.append(seconds_of("trace", str(run), "--sample", newest, "--up", "--json"))
            told.append(fastest(partial(opened.trace, sample=newest, down=False)))
            ancestors = len(opened.trace(sample=newest, down=False).up or ())
            opening = time.perf_counter()
            book = Ledger(run)
            opening = time.perf_counter() - opening
            row = f"| {count:,} | {size:.1f} | {' | '.join(f'{seconds:.2f}' for seconds in told)} "
            print(row + f"| {ancestors:,} | {append_ms(book):.3f} | {opening:.2f} |", flush=True)
            book.close()
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        bare, ours = verify_seconds(Path(folder), options.objects, options.mib)
    total = options.objects * options.mib
    print(f"\nverify of {total} MiB in {options.objects} artifacts: {ours:.2f} s; bare SHA-256 {bare:.2f} s;")
    print(f"verify has {bare / ours:.0%} of the bare hash's speed")


def seconds_of(*words: str) -> float:
    command = [sys.executable, "-m", "flywheel", *words]
    return fastest(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def fastest(call: Callable[[], Any]) -> float:
    """The fastest of three: other processes only ever add."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def append_ms(book: Ledger) -> float:
    seconds, session = [], next(event for event in book if event.event == "session_started")
    for _ in range(200):
        began = time.perf_counter()
        book.append(session)
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def verify_seconds(folder: Path, objects: int, mib: int) -> tuple[float, float]:
    run = synthetic_run(folder, 1)
    store, block = Store(run), os.urandom(mib << 20)
    names = [store.put(k.to_bytes(8, "big") + block, ".bin") for k in range(objects)]
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(3):
        began = time.perf_counter()
        for name in names:
            with open(store.path(name), "rb") as file:
                hashlib.file_digest(file, "sha256")
        times["bare"].append(time.perf_counter() - began)
        began = time.perf_counter()
        found = verify(run)
        times["ours"].append(time.perf_counter() - began)
        assert found.first_bad is None, found.first_bad
    return min(times["bare"]), min(times["ours"])


def synthetic_run(
    folder: Path, generations: int, make: Callable[..., dict[str, str]] | None = None, **suites: str
) -> Path:
    """A run with a genesis and so many turns; its batches are real, its other artifacts one small file.

    ``make`` makes the artifacts of a turn that are real, as ``batch`` does, others as ``STAGE.OUTPUT``.
    ``suites``: their roles.
    """
    lines: list[bytes] = []
    head, kept = ledger.GENESIS_HASH, 0

    def add(event: str, **content: Any) -> None:
        nonlocal head
        place = {"seq": len(lines), "prev": head, "time": 1795420440.438}
        lines.append(seal({**place, "event": event, **content}))
        head = ledger.parse_quickly(lines[-1], head, len(lines) - 1).hash

    store = Store(folder)
    thing, batches = store.put(b"{}", ".json"), list[list[str]]()
    carry = dict.fromkeys(("curator", "tuner", "gate"), thing)
    created: dict[str, Any] = {"format": 1, "recipe": "mnist", "name": "run", "config": {}}
    created["data"] = {f"suite {name}": {"name": name, "role": role} for name, role in suites.items()}
    session: dict[str, Any] = {
        "threads": 1,
        "commit": None,
        "checkouts": {},
        "machine": "x86_64",
        "compute": {},
    }
    session |= {"python": "3.11", "versions": {}, "command": ["recipe=mnist"], "outputs": {}}
    budget, level = ErrorBudget(alpha=0.05, looks=generations), 0.0
    add("run_created", **created, threads=1, error_budget=budget.json())
    add("session_started", world_size=1, **session)
    for number in range(generations + 1):
        promoted = number % 10 == 0
        parent = kept if number else None
        add("generation_started", generation=number, parent=parent, champion=parent)
        level = budget.level(number, level if kept == number - 1 else 0.0) if number else 0.0
        made = (make or batch)(store, folder, number, thing)
        batches.append([made["samples"], made["scores"]])
        made["sources"] = store.put_json([[*one, 4] for one in batches[-6:]])
        for stage, facts, outputs in turn(number, promoted, level, thing):
            outputs |= {name: made[name] for name in outputs.keys() & made.keys()}
            outputs |= {
                key.partition(".")[2]: name for key, name in made.items() if key.startswith(f"{stage}.")
            }
            inputs = dict.fromkeys(("corpus", "sources", "starts.parent"), thing)
            if stage == "evaluate" and number:
                add("look", generation=number, number=number, level=level)
            cost = {"cost": {"seconds": 1.2345, "cpu_seconds": 1.1111}, "facts": facts}
            add("stage", generation=number, stage=stage, inputs=inputs, outputs=outputs, **cost)
        status = "promoted" if promoted else "rejected"
        reason = "12 better, 3 worse of 750; p = 0.0176"
        add("generation_ended", generation=number, status=status, reason=reason, carry=carry)
        kept = number if promoted else kept
    add("run_finished", reason="generations", champion=kept)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))
    (folder / "HEAD").write_text(head + "\n")
    return folder


def batch(store: Store, folder: Path, number: int, maker: str) -> dict[str, str]:
    """Four samples with scores and decisions, stored and noted as the loop does."""
    made = {"prompt": [f"prompt {k} of {number}" for k in range(4)]}
    origin = {"origin": "generated", "made_in": number, "made_by": maker, "key": number}
    samples = with_provenance(pa.table(made), own=("prompt",), **origin)
    ids.note(folder, number, "generate" if number else "seed", samples)
    scores = pa.table({"id": samples["id"], "confidence": [0.9, 0.8, 0.7, 0.6]})
    chosen = {"keep": [True] * 4, "reason": ["top"] * 4, "weight": [1.0] * 4, "count": [1] * 4}
    decisions = pa.table({"id": samples["id"], **chosen}).cast(DECISIONS)
    tables = {"samples": samples, "scores": scores, "decisions": decisions}
    return {name: store.put_table(table) for name, table in tables.items()}


def turn(
    number: int, promoted: bool, level: float, thing: str
) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """Stage, facts and outputs of each stage."""
    accuracy = {"accuracy": {"value": 0.97123, "low": 0.9512345678, "high": 0.98712345}}
    settings = {"steps": 450, "lr": 0.002, "batch_size": 128, "threshold": 0.9, "width": 32}
    verdict = {"promote": promoted, "reason": "12 better, 3 worse of 750", "p_value": 0.0176, "level": level}
    origins = {"human": 100, "generated": 2354}
    reasons = {"human": 100, "top 1 by confidence": 2354, "below threshold": 646}
    units = {"units": {"count": 6, "digest": "0" * 64}}
    held_out = {"columns": ["prompt"], "exhaustible": [], "shared": []}
    prompts = {"rows": 4, "columns": {"prompt": "string"}, "rest": "0" * 64, "floats": {}}
    rows = {"corpus": "0" * 64, "rows": 2454, "by_origin": origins, "by_reason": reasons}
    start = {"kind": "fresh", "weights": None, "origin": None}
    stages: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("curate", rows, {"corpus": thing, "decisions": thing, "sources": thing, "carry": thing}),
        ("tune", {"settings": settings, "start": "fresh"}, {"carry": thing}),
        ("train", {"settings": settings, "start": start, "steps": 450, "loss": 0.01}, {"weights": thing}),
        ("evaluate", {"metrics": {"dev": accuracy, "gate": accuracy}, **units}, {"outcomes": thing}),
    ]
    if number == 0:
        stages.insert(0, ("seed", {"human": 4, "held_out": held_out}, {"samples": thing}))
        return stages
    stages.insert(
        0, ("generate", {"made": 4, "left_out": 0, "prompts": prompts, **units}, {"samples": thing})
    )
    stages.insert(
        1,
        (
            "grade",
            {"grader": "Confidence", "version": thing, "loaded_parent": None, **units},
            {"scores": thing},
        ),
    )
    stages.append(("gate", {"verdict": verdict, "carry_kept": "always"}, {"carry": thing}))
    if promoted:
        stages.append(("review", {"consent": True, "reviewer": "Nobody"}, {}))
    return stages


if __name__ == "__main__":
    main()
