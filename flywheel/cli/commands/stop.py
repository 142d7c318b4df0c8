"""Stop a running run."""

import argparse
import sys

from flywheel.cli.commands import add_run, directory_of
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)


def main(options: argparse.Namespace) -> int:
    """Stop a running run at its next step; the same command as before continues it."""
    from flywheel.runtime import stop
    from flywheel.storage import lock

    directory = directory_of(options, changes=True)
    work = lock.work_under_way(directory)
    if work is not lock.Work.RUN:
        other = f": it is being {work.passive}" if work else ""
        print(f"{directory} is not running{other}.", file=sys.stderr)
        return ExitCode.REFUSED
    stop.request(directory)
    print(f"{directory} will stop at its next step.")
    return ExitCode.FINISHED
