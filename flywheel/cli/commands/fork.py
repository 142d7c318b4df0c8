"""Start a new run from a generation of another one."""

from __future__ import annotations

import argparse
import re

from flywheel.cli.commands import add_config_dir, add_json, add_runs_dir, print_json, run_named
from flywheel.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("at", metavar="RUN@GEN", help="a run and the number of a generation")
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

    at = re.fullmatch(r"(.+)@(\d+)", options.at)
    if at is None:
        raise ConfigError(f"Expected what to fork as RUN@GEN, e.g. RECIPE/NAME@2, got {options.at!r}.")
    directory = run_named(at[1], options.runs_dir, changes=True)
    where = [f"runs_dir={hydra_value(options.runs_dir)}"]
    quiet = ["log=quiet"] if options.json else []
    run = open_run(directory, options.config_dir).fork(int(at[2]), [*where, *quiet, *options.overrides])
    if options.json:
        print_json(run.status())
    else:
        status = run.status()
        print(f"run       {run.path}, {status.state}, forked from {directory} at {at[2]}")
        print(f"head      {status.head}")
        print(f"go on     {command_of(run.path, run.config_dir)}")
    return int(run.exit_code or 0)
