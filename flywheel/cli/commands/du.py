"""What takes the room."""

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode
from flywheel.lineage.text import size_text


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What takes the room in a run, by kind and by generation, and what prune could free."""
    from flywheel.lineage.usage import usage

    report = usage(directory_of(options))
    if options.json:
        print_json(report)
        return ExitCode.FINISHED
    print(f"{report.run}  {size_text(report.bytes)}")
    for kind, size in report.by_kind.items():
        print(f"  {kind:<20}{size_text(size):>10}")
    for number, size in report.by_generation.items():
        print(f"  generation {number:<9}{size_text(size):>10}")
    for options_of_prune, size in report.prunable.items():
        print(f"  prune {options_of_prune:<21} would free {size_text(size)}")
    if report.pruned:
        print(f"  pruned so far: {size_text(report.pruned)}")
    if report.orphans.files:
        lost = report.orphans
        print(f"  {lost.files} files that no event names: {size_text(lost.bytes)}; prune removes them")
    return ExitCode.FINISHED
