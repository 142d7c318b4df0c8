"""The command line. Overrides run the loop; a word is a subcommand. Nothing heavy is imported early."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from flywheel import __version__
from flywheel.cli import commands
from flywheel.errors import ExitCode, FlywheelError, RankDied, near_misses
from flywheel.trackers.console import printable

_HELP = """\
usage: python -m flywheel recipe=NAME [key=value ...]      run a recipe, or resume it
       python -m flywheel -m recipe=NAME key=a,b           run once for each value (Hydra multirun)
       python -m flywheel SUBCOMMAND [RUN] [--json]

A self-improving training loop: train, generate, grade, tune, curate, evaluate, gate, promote.
The same command again continues the run; a finished run says so.

options of a run
  --config-dir DIR        look for recipes in DIR/recipe/*.yaml too
  --cfg job               print the configuration and exit
  -m, --multirun          sweep over comma-separated values

keys that matter first (--cfg job prints all)
  seed=0  generations=4  name=NAME  runs_dir=runs  budget.seconds=600  patience=2
  log=auto|live|plain|json|quiet  debug=tiny|fast_dev_run  tracker=wandb

subcommands
{subcommands}

RUN is a directory, RECIPE/NAME or NAME under runs_dir, or a recipe: its newest run; none: the newest.

exit codes
  0 finished    1 failed    2 refused: configuration, data or run directory cannot be used
  3 stopped     4 awaiting review     5 rank died (another one, of torchrun)     130 interrupted
"""


_COLUMN = 24


def _listed(subcommand: commands.Subcommand) -> str:
    """A line of help; what it answers is on a line of its own if the usage is long."""
    usage = f"  {subcommand.usage}"
    gap = " " * (_COLUMN - len(usage)) if len(usage) < _COLUMN - 1 else "\n" + " " * _COLUMN
    return usage + gap + subcommand.answers


HELP = _HELP.format(subcommands="\n".join(map(_listed, commands.SUBCOMMANDS)))


def main(arguments: Sequence[str]) -> int:
    """Answer a command line and return the exit code."""
    words = list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return ExitCode.FINISHED
    if words[0] == "--version":
        print(f"flywheel {__version__}")
        return ExitCode.FINISHED
    try:
        if words[0].startswith("-") or any(sign in words[0] for sign in "=+~"):
            return _run(words)
        return _subcommand(words)
    except FlywheelError as error:
        from flywheel import ranks

        if ranks.rank() == 0:
            print(printable(error), file=sys.stderr)
        return error.exit_code
    except RankDied as error:
        print(printable(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the loop began; it handles its own
        exec("")  # CPython dies of SIGINT at its end if one went through its latest exec of a string
        print("Interrupted before anything was done.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # e.g. `| head`
            sys.stderr.close()
            return ExitCode.FINISHED
        traceback.print_exc()
        print(
            f"The disk failed: {error}. What is recorded is safe; the same command goes on.", file=sys.stderr
        )
        return ExitCode.FAILED


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m flywheel", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(words)
    if options.help:
        print(HELP, end="")
        return ExitCode.FINISHED
    from flywheel.config.compose import compose
    from flywheel.config.search_path import add_working_directory

    add_working_directory()
    if options.multirun:
        return _multirun(options.overrides, options.config_dir)
    if options.cfg:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(compose(options.overrides, options.config_dir)), end="")
        return ExitCode.FINISHED
    from flywheel import ranks
    from flywheel.launch.launch import composed

    code = _launch(composed(options.overrides, options.config_dir), options.config_dir)
    ranks.end(code)
    return code


def _launch(config: Any, config_dir: str | None) -> int:
    from flywheel.launch.launch import launch

    return commands.ending(launch(config, config_dir))


def _multirun(overrides: list[str], config_dir: str | None) -> int:
    """Run a sweep, one job after the other (Hydra's launcher decides); return the most serious exit code."""
    from flywheel import ranks
    from flywheel.config import credentials
    from flywheel.config.compose import explained, hydra_session, quoted
    from flywheel.config.search_path import check_recipe_name

    ranks.start()
    check_recipe_name(overrides, config_dir)
    credentials.check_words(overrides)
    with hydra_session(config_dir) as hydra, explained(overrides, config_dir):
        jobs = quoted(overrides, sweep=True)
        batches = hydra.multirun("config", _job(config_dir), jobs, with_log_configuration=False)
    code = ExitCode.worst(job.return_value for batch in batches for job in batch)
    ranks.end(code)
    return code


def _job(config_dir: str | None) -> Callable[[Any], int]:
    """A job of a sweep; after one was asked to stop, the others are not started."""
    codes: list[int] = []

    def job(config: Any) -> int:
        if codes and codes[-1] in (ExitCode.INTERRUPTED, ExitCode.STOPPED):
            return codes[-1]
        codes.append(one(config))
        return codes[-1]

    def one(config: Any) -> int:
        from hydra.core.hydra_config import HydraConfig

        from flywheel.config.compose import checked

        try:
            return _launch(checked(config, HydraConfig.get().runtime.choices), config_dir)
        except FlywheelError as error:
            print(printable(error), file=sys.stderr)
            return error.exit_code

    return job


def _subcommand(words: list[str]) -> int:
    if words[0] not in commands.NAMES:
        print(
            f"There is no subcommand {words[0]!r}.{near_misses(words[0], commands.NAMES)} A run is started "
            f"with recipe=NAME; subcommands are {', '.join(commands.NAMES)}.",
            file=sys.stderr,
        )
        return ExitCode.REFUSED
    return commands.run(words[0], words[1:])
