"""What takes the room."""

from __future__ import annotations

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode
from flywheel.lineage.text import size_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What takes the room in a run, by kind and by generation, and what prune could free."""
    from flywheel.lineage.usage import usage

    found = usage(directory_of(options))
    if options.json:
        print_json(found)
        return ExitCode.FINISHED
    print(f"{found.run}  {size_text(found.bytes)}")
    for kind, size in found.by_kind.items():
        print(f"  {kind:<20}{size_text(size):>10}")
    for number, size in found.by_generation.items():
        print(f"  generation {number:<9}{size_text(size):>10}")
    for options_of_prune, size in found.prunable.items():
        print(f"  prune {options_of_prune:<21} would free {size_text(size)}")
    if found.pruned:
        print(f"  pruned so far: {size_text(found.pruned)}")
    if found.orphans.files:
        lost = found.orphans
        print(f"  {lost.files} files that no event names: {size_text(lost.bytes)}; prune removes them")
    return ExitCode.FINISHED
