"""What recording samples costs: text of 200 bytes, with ids and provenance, streamed into an artifact.

python benchmarks/recording.py [--rows 250000 500000 1000000]

Each number of rows in a process of its own, through what the generate stage does with each chunk. The text
is random, so that it hardly compresses. Peak memory includes Python and Arrow, some 100 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHUNK = 4096


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--one", action="store_true", help="measure here and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.rows[0])))
        return
    row = "| {samples:,} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} | {file:.0f} |"
    print("| samples | seconds | CPU seconds | peak RSS, MiB | file, MiB |\n| --- | --- | --- | --- | --- |")
    for rows in options.rows:
        command = [sys.executable, __file__, "--one", "--rows", str(rows)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(row.format(**json.loads(told)), flush=True)


def measure(rows: int) -> dict[str, float]:
    import numpy as np
    import pyarrow as pa

    from flywheel.storage.store import Store
    from flywheel.tables import require_finite, with_provenance
    from flywheel.tables.types import matched, stored

    letters = np.frombuffer(np.random.default_rng(0).bytes(200 * CHUNK), np.uint8) % 64 + 48
    weights, wanted = "0" * 64 + ".safetensors", {"answer": pa.string()}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        wall, cpu = time.perf_counter(), time.process_time()
        with store.table_writer() as writer:
            for first in range(0, rows, CHUNK):
                n = min(CHUNK, rows - first)
                text = np.roll(letters, first // CHUNK)[: 200 * n].tobytes()
                offsets = np.arange(0, 200 * n + 1, 200, dtype=np.int32)
                answers = pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))
                prompts = [f"prompt-{k}" for k in range(first, first + n)]
                made = pa.table({"prompt": prompts, "answer": answers})
                own = ("prompt", "group")
                from_here = {"origin": "generated", "made_in": 1, "made_by": weights, "key": first}
                made = matched(stored(made, "Samples"), wanted, "chunk")
                writer.write(require_finite(with_provenance(made, own=own, **from_here), "Samples"))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = store.path(writer.name).stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"samples": rows, "seconds": wall, "cpu": cpu, "peak": peak, "file": size / 2**20}


if __name__ == "__main__":
    main()
