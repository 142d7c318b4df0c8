"""``python -m tests.histories --count 2000 --seed 0``: random histories against the reference."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.histories.history import SHARES, Mismatch, play_history


def main() -> int:
    """Print what differs, and how often each kind of event, edge and answer occurred."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first history; the next ones follow")
    options = parser.parse_args()
    total, histories, bad, start = Counter[str](), Counter[str](), list[int](), time.perf_counter()
    for seed in range(options.seed, options.seed + options.count):
        try:
            happened = play_history(seed)
        except Mismatch as mismatch:
            bad.append(seed)
            print(mismatch, end="\n\n", flush=True)
        else:
            total += happened
            histories.update({kind for kind, times in happened.items() if times})
    for kind in sorted({*histories, *SHARES}):
        print(f"{kind:<44}{total[kind]:>8} in {histories[kind]:>6} histories")
    print(
        f"{options.count - len(bad)} of {options.count} histories agree; {time.perf_counter() - start:.0f} s"
    )
    print(f"that differ: {bad}" if bad else "none differs")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
