"""The tree of generations."""

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """The tree of generations: parents, verdicts, and the typed edges to what each was made from."""
    from flywheel.lineage.graph import lineage
    from flywheel.lineage.status import read_state, summary_line

    directory = directory_of(options)
    state = read_state(directory)
    answer = lineage(directory, state)
    if options.json:
        print_json(answer)
        return ExitCode.FINISHED
    from flywheel.trackers.console import printable, wide_console
    from flywheel.trackers.tree import lineage_tree

    wide_console().print(lineage_tree(printable(summary_line(directory, state)), answer))
    return ExitCode.FINISHED
