"""Whether this machine is ready."""

import argparse

from flywheel.cli.commands import add_json, add_runs_dir, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What is installed, which devices there are, room on disk, W&B login; with remedies."""
    from flywheel.cli.doctor import checks

    results = list(checks(options.runs_dir))
    if options.json:
        print_json([check.json() for check in results])
    else:
        for check in results:
            remedy = f"  ({check.remedy})" if check.remedy else ""
            print(f"{'ok' if check.ok else 'NO':<4}{check.name:<14}{check.found}{remedy}")
    return ExitCode.FINISHED if all(check.ok for check in results) else ExitCode.FAILED
