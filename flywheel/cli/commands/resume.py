"""Go on with a run from what it recorded."""

import argparse

from flywheel.cli.commands import add_config_dir, add_run, ending, run_named


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser, required=True)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="operational keys, e.g. generations=8"
    )
    add_config_dir(parser)


def main(options: argparse.Namespace) -> int:
    """Go on with a run by its recorded configuration; only operational keys may be changed.

    Under torchrun: torchrun --nproc-per-node=2 -m flywheel resume RUN.
    """
    from flywheel import ranks
    from flywheel.api import open_run
    from flywheel.launch.launch import resume

    ranks.start()
    directory = ranks.from_rank_0(lambda: run_named(options.run, options.runs_dir, changes=True))
    known = open_run(directory, options.config_dir)
    code = ending(resume(directory, options.overrides, known.config_dir, known.trusted))
    ranks.end(code)
    return code
