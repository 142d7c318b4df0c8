"""Set the champion back."""

from __future__ import annotations

import argparse

from flywheel.cli.commands import add_json, add_runs_dir, directory_of, generation_word, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="directory, RECIPE/NAME, NAME or recipe")
    parser.add_argument(
        "generation", type=generation_word, metavar="GEN", help="a generation that was promoted"
    )
    parser.add_argument("--why", required=True, help="a sentence for whoever reads the ledger")
    add_runs_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Make a former champion the champion again, without blaming any data.

    The next run of the same command goes on from it.
    """
    from flywheel.lineage.recall import rollback

    report = rollback(directory_of(options, changes=True), options.generation, options.why)
    if options.json:
        print_json(report)
    else:
        before, after = report.champion.before, report.champion.after
        print(f"{report.run}: the champion is generation {after}, no longer {before}: {report.why}")
    return ExitCode.FINISHED
