"""Make room."""

from __future__ import annotations

import argparse
from collections import Counter

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode
from flywheel.lineage.text import size_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    parser.add_argument("--promoted", action="store_true", help="keep all that became champions")
    parser.add_argument(
        "--last",
        type=int,
        metavar="N",
        help="keep the N that ended last; 0: only what the run needs",
    )
    parser.add_argument("--yes", action="store_true", help="do it; else only say what would go")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Drop weights, samples and decisions of generations that are not to be kept.

    What the run needs to go on is always kept.

    The ledger names each that is dropped, so that verify, trace and recall go on working.
    """
    from flywheel.storage.pruning import prune

    directory = directory_of(options, changes=options.yes)
    found = prune(directory, promoted=options.promoted, last=options.last, yes=options.yes)
    if options.json:
        print_json({"run": str(directory), **found.json()})
        return ExitCode.FINISHED
    room, count = Counter[tuple[int, str]](), len(found.drops)
    for drop in found.drops:
        room[drop.generation, drop.kind] += found.bytes[drop.name]
    for (generation, kind), size in room.items():
        print(f"generation {generation:<5} {kind:<10}{size_text(size):>10}")
    if found.slim_bytes:
        tables = f"{len(found.slim_bytes)} slim tables in their place"
        print(f"{tables:<27}{'-' + size_text(sum(found.slim_bytes.values())):>10}")
    if found.orphans:
        left = f"{len(found.orphans)} files that no event names"
        print(f"{left:<27}{size_text(sum(found.orphans.values())):>10}")
    total = size_text(found.freed + sum(found.orphans.values()))
    verbs = ("dropped", "freed") if found.done else ("would drop", "free")
    print(f"{directory}: {verbs[0]} {count} objects and {verbs[1]} {total}, keeping {found.policy}")
    if not found.done and (count or found.orphans):
        print("Nothing was changed; --yes does it.")
    return ExitCode.FINISHED
