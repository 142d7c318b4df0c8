"""Train a generation again."""

import argparse

from flywheel.cli.commands import add_config_dir, add_json, add_run, directory_of, generation_word, reply
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "generation", type=generation_word, metavar="GEN", help="number, champion, last or final"
    )
    parser.add_argument("--into", metavar="DIR", help="keep the weights and outcomes there; default: nowhere")
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Train a generation again from its recorded inputs and compare weights and outcomes, bit for bit.

    The run is not touched. Exit code 0: equal; 1: different.
    """
    from flywheel.api import open_run
    from flywheel.config.search_path import add_working_directory

    add_working_directory()
    run = open_run(directory_of(options), options.config_dir)
    generation = run.generation(options.generation)
    report = generation.reproduce(options.into)
    reply(options, report, [f"generation {generation.number} of {run.path}: {report}"])
    return ExitCode.FINISHED if report.equal else ExitCode.FAILED
