"""Make room by policy."""

from __future__ import annotations

import argparse
from collections import Counter

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode
from flywheel.lineage.text import size_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    keep = "comma-separated: promoted, last=N, champion (always kept, with all that the run needs to go on)"
    parser.add_argument("--keep", required=True, metavar="POLICY", help=keep)
    parser.add_argument("--yes", action="store_true", help="do it; else only say what would go")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Drop weights, samples and decisions of generations that the policy does not keep.

    The ledger names each that is dropped, so that verify, trace and recall go on working.
    """
    from flywheel.storage.pruning import prune

    directory = directory_of(options, changes=options.yes)
    found = prune(directory, options.keep, yes=options.yes)
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
