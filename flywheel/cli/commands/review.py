"""Answer a run that waits for a review."""

import argparse

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.errors import ConfigError, ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    answer = parser.add_mutually_exclusive_group()
    answer.add_argument("--yes", action="store_true", help="consent to the promotion")
    answer.add_argument("--no", action="store_true", help="refuse it")
    parser.add_argument("--by", metavar="NAME", help="who answers")
    parser.add_argument("--why", default="", help="a sentence for whoever reads the ledger")
    parser.add_argument(
        "--manifest", metavar="HASH", help="only if this, or what begins so, is what is asked"
    )
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What a run asks its reviewer; with --yes or --no, the answer, which is bound to just that."""
    from flywheel.lineage.review import answer, asked

    is_answer = options.yes or options.no
    directory = directory_of(options, changes=is_answer)
    if is_answer:
        if not options.by:
            raise ConfigError("An answer says who gave it. Give --by NAME.")
        answer(directory, options.yes, options.by, options.why, options.manifest or "")
    question = asked(directory)
    if options.json or not is_answer:
        print_json(question)
    else:
        verb = "consented to" if options.yes else "refused"
        print(f"Generation {question.generation}: {verb}. Run the same command to go on.")
    return ExitCode.FINISHED
