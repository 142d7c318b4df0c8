"""Start a new run from a generation of another one."""

import argparse

from flywheel.cli.commands import (
    add_config_dir,
    add_json,
    add_runs_dir,
    generation_of_run,
    reply,
    run_named,
)
from flywheel.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "at", type=generation_of_run, metavar="RUN@GEN", help="a run, and number, champion, last or final"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for a run")
    add_config_dir(parser)
    add_runs_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Start a new run from a generation, its weights adopted as they are, with overrides on top.

    The new run needs nothing of the old one: it goes on by the command that is printed.
    """
    from flywheel.api import open_run
    from flywheel.config.compose import hydra_value
    from flywheel.launch.fork import command_of

    name, which = options.at
    if not name:
        raise ConfigError(f"Expected what to fork as RUN@GEN, e.g. RECIPE/NAME@2, got {which}.")
    source = open_run(run_named(name, options.runs_dir, changes=True), options.config_dir)
    number = source.generation(which).number
    where = [f"runs_dir={hydra_value(options.runs_dir)}"]
    quiet = ["log=quiet"] if options.json else []
    run = source.fork(number, [*where, *quiet, *options.overrides])
    status = run.status()
    lines = [
        f"run       {run.path}, {status.state}, forked from {source.path} at {number}",
        f"head      {status.head}",
        f"go on     {command_of(run.path, run.config_dir)}",
    ]
    reply(options, status, lines)
    return int(run.exit_code or 0)
