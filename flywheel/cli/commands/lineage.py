"""The tree of generations."""

from __future__ import annotations

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """The tree of generations: parents, verdicts, and the typed edges to what each was made from."""
    from flywheel.lineage.status import lineage, read_state, summary_line

    directory = directory_of(options)
    state = read_state(directory)
    entries = lineage(directory, state)
    if options.json:
        print_json({"run": str(directory), "generations": entries})
        return ExitCode.FINISHED
    from flywheel.cli.rendering import plain_text
    from flywheel.trackers.console import printable, wide_console
    from flywheel.trackers.tree import lineage_tree

    for entry in entries:  # a reason may hold what a model wrote
        entry["reason"] = plain_text(entry["reason"])
    wide_console().print(lineage_tree(printable(summary_line(directory, state)), entries))
    return ExitCode.FINISHED
