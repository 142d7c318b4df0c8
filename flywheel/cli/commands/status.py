"""Where a run stands."""

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Where a run stands: its state, champion and generations."""
    from flywheel.lineage.code_changes import CodeChange
    from flywheel.lineage.status import read_state, status, summary_line

    directory = directory_of(options)
    if options.json:
        print_json(status(directory))
        return ExitCode.FINISHED
    from flywheel.trackers.console import printable, wide_console
    from flywheel.trackers.standings import generations_table

    state = read_state(directory)
    for line in (summary_line(directory, state), *map(CodeChange.of, state.code_changes)):
        print(printable(line))
    console = wide_console()
    console.print(generations_table(state, console.width))
    return ExitCode.FINISHED
