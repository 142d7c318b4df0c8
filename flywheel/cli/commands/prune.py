"""Make room."""

import argparse
from collections import Counter

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode
from flywheel.lineage.text import size_text


def arguments(parser: argparse.ArgumentParser) -> None:
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
    report = prune(directory, promoted=options.promoted, last=options.last, yes=options.yes)
    if options.json:
        print_json({"run": str(directory), **report.json()})
        return ExitCode.FINISHED
    room, count = Counter[tuple[int, str]](), len(report.drops)
    for drop in report.drops:
        room[drop.generation, drop.kind] += report.bytes[drop.name]
    for (generation, kind), size in room.items():
        print(f"generation {generation:<5} {kind:<10}{size_text(size):>10}")
    if report.slim_bytes:
        tables = f"{len(report.slim_bytes)} slim tables in their place"
        print(f"{tables:<27}{'-' + size_text(sum(report.slim_bytes.values())):>10}")
    if report.orphans:
        orphans = f"{len(report.orphans)} files that no event names"
        print(f"{orphans:<27}{size_text(sum(report.orphans.values())):>10}")
    total = size_text(report.freed + sum(report.orphans.values()))
    verbs = ("dropped", "freed") if report.done else ("would drop", "free")
    print(f"{directory}: {verbs[0]} {count} objects and {verbs[1]} {total}, keeping {report.policy}")
    if not report.done and (count or report.orphans):
        print("Nothing was changed; --yes does it.")
    return ExitCode.FINISHED
