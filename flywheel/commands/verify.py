"""Whether a run is as it was written."""

from __future__ import annotations

import argparse

from flywheel.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Check every line of the ledger, HEAD, and every artifact; name the first bad one."""
    from flywheel.lineage.verify import verify

    directory = directory_of(options)
    found = verify(directory)
    if options.json:
        print_json(found.json())
    elif found.first_bad is None:
        print(f"{directory}: {found.lines} lines and {found.objects} artifacts as written, head {found.head}")
    else:
        print(f"{directory}: {found.first_bad}")
    return ExitCode.FINISHED if found.first_bad is None else ExitCode.FAILED
