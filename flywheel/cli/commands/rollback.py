"""Set the champion back."""

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, reply
from flywheel.cli.rendering import goes_on_text


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser, required=True)
    parser.add_argument(
        "generation", type=generation_word, metavar="GEN", help="a generation that was promoted"
    )
    parser.add_argument("--why", required=True, help="a sentence for whoever reads the ledger")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Make a former champion the champion again, without blaming any data.

    The same command goes on from it; with seal=reopen if the run's sealed suites were opened.
    """
    from flywheel.lineage.recall import rollback

    report = rollback(directory_of(options, changes=True), options.generation, options.why)
    before, after = report.champion.before, report.champion.after
    change = f"{report.run}: the champion is generation {after}, no longer {before}: {report.why}"
    ahead = report.frontier.before
    given_up = f"The frontier, generation {ahead}, is given up: the next generation builds on the champion."
    goes_on = goes_on_text("champion", report.needs_reopen)
    return reply(options, report, [change, given_up if ahead != before else "", goes_on])
