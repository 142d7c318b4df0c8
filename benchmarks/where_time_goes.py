"""Where the time of a run goes: stages by its ledger, and operators of one generation by torch's profiler.

python benchmarks/where_time_goes.py runs/addition/NAME                 # stages
python benchmarks/where_time_goes.py runs/addition/NAME --generation 10 # and operators, by reproducing one
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--generation", type=int)
    options = parser.parse_args()
    import flywheel

    run = flywheel.open_run(options.run)
    stages(run)
    if options.generation is not None:
        operators(run, options.generation)


def stages(run: Any) -> None:
    """Seconds of each stage, genesis and the look at the sealed suites apart."""
    seconds: Counter[str] = Counter()
    for view in run.generations():
        for name, event in view.record.stages.items():
            seconds["genesis" if view.number == 0 else name] += event.cost.seconds
        if view.number in view.state.sealed:
            seconds["sealed"] += view.state.sealed[view.number].cost.seconds
    total = sum(seconds.values())
    print("| stage | s | share |\n| --- | --- | --- |")
    for name, spent in seconds.most_common():
        print(f"| {name} | {spent:.1f} | {spent / total:.1%} |")


def operators(run: Any, generation: int) -> None:
    """Shares of the CPU time that operators take while a generation is trained and evaluated again."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run.reproduce(generation)
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    print("\n| operator | calls | share of CPU time |\n| --- | --- | --- |")
    for event in events[:12]:
        print(f"| {event.key} | {event.count} | {event.self_cpu_time_total / total:.1%} |")


if __name__ == "__main__":
    main()
