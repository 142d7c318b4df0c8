"""Whether a run is as it was written."""

import argparse
import re

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode, RunError


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--head", metavar="HASH", help="a head kept elsewhere, which must be in the ledger")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Check every line of the ledger, HEAD, and every artifact; name the first bad one."""
    from flywheel.storage.verify import verify

    directory = directory_of(options)
    if options.head and not re.fullmatch("[0-9a-f]{64}", options.head):
        raise RunError(f"Expected a head of 64 hex digits, as a run prints at its end, got {options.head!r}.")
    report = verify(directory, options.head)
    if options.json:
        print_json(report)
    elif report.first_bad is None:
        kept = ", and the head that you kept is among them" if options.head else ""
        pruned = f", {report.pruned} more are pruned" if report.pruned else ""
        print(f"{directory}: {report.lines} lines and {report.objects} artifacts as written{pruned}{kept}")
        print(f"head {report.head}")
    else:
        print(f"{directory}: {report.first_bad}")
    return ExitCode.FINISHED if report.first_bad is None else ExitCode.FAILED
