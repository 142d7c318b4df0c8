"""Ways in which the files of a run come to be other than they were written: a disk's, and a forger's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flywheel.storage import ledger


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """A file with one bit flipped, until the block ends."""
    whole = path.read_bytes()
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(whole)


def reseal(run: Path, events: Iterable[Mapping[str, Any]]) -> None:
    """Write these events as a ledger whose numbers, hashes and HEAD are right, as a careful forger does."""
    prev, lines = ledger.GENESIS_HASH, []
    for seq, event in enumerate(events):
        content = {key: value for key, value in event.items() if key != "hash"}
        lines.append(ledger.seal({"time": 0.0, **content, "seq": seq, "prev": prev}))
        prev = json.loads(lines[-1])["hash"]
    (run / "ledger.jsonl").write_bytes(b"".join(lines))
    (run / "HEAD").write_text(prev + "\n")
