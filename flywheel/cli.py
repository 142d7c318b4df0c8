"""The command line. Overrides run the loop; a word is a subcommand. Nothing heavy is imported early."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from flywheel import __version__
from flywheel.errors import ExitCode, FlywheelError, near_misses

HELP = """\
usage: python -m flywheel recipe=NAME [key=value ...]      run a recipe, or resume it
       python -m flywheel -m recipe=NAME key=a,b           run once for each value (Hydra multirun)
       python -m flywheel SUBCOMMAND [RUN] [--json]

A self-improving training loop: train, generate, grade, curate, tune, evaluate, gate, promote.
The same command again goes on with the run; a finished run says so.

options of a run
  --config-dir DIR        look for recipes in DIR/recipe/*.yaml too
  --cfg job               print the configuration and exit
  -m, --multirun          sweep over comma-separated values

keys that matter first (--cfg job prints all)
  seed=0  generations=4  name=NAME  runs_dir=runs  budget.seconds=600  patience=2
  log=auto|live|plain|json|quiet  debug=tiny|fast_dev_run  tracker=wandb

subcommands
  status [RUN]            where a run stands
  lineage [RUN]           the tree of generations and what each was made from
  verify [RUN]            check every line of the ledger and every artifact
  stop [RUN]              stop a running run at its next step
  recipes                 what can be run
  doctor                  what is installed, devices, disk, W&B login

RUN is a directory, RECIPE/NAME or NAME under runs_dir, or a recipe: its newest run; none: the newest.

exit codes
  0 finished    1 failed    2 refused: configuration, data or run directory cannot be used
  3 stopped     4 awaiting review     130 interrupted
"""


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
        from flywheel import distributed

        if distributed.rank() == 0:
            print(f"{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the loop began; it handles its own
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
    from flywheel.compose import add_working_directory, compose

    add_working_directory()
    if options.multirun:
        return _multirun(options.overrides, options.config_dir)
    if options.cfg:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(compose(options.overrides, options.config_dir)), end="")
        return ExitCode.FINISHED
    from flywheel import api

    return _launch(api.composed(options.overrides, options.config_dir), options.config_dir)


def _launch(config: Any, config_dir: str | None) -> int:
    from flywheel import api, distributed
    from flywheel.schema import Log

    run = api.launch(config, config_dir)
    if distributed.rank() == 0 and config.log not in (Log.json, Log.quiet):
        status = run.status()
        if status["champion"]:
            print(f"champion  generation {status['champion']['generation']}, {run.champion().file}")
        print(f"run       {run.path}, {status['state']}\nhead      {status['head']}")
    return int(run.exit_code or 0)


def _multirun(overrides: list[str], config_dir: str | None) -> int:
    """Sweep in one process after the other's end (Hydra's launcher decides); the worst exit code speaks."""
    from flywheel import distributed
    from flywheel.compose import check_recipe_name, explained, hydra_session

    distributed.start()
    check_recipe_name(overrides, config_dir)
    with hydra_session(config_dir) as hydra, explained(hydra, overrides):
        batches = hydra.multirun("config", _job(config_dir), overrides, with_log_configuration=False)
    return ExitCode.worst(job.return_value for batch in batches for job in batch)


def _job(config_dir: str | None) -> Callable[[Any], int]:
    """A job of a sweep; once one was told to stop, the others are not begun."""
    codes: list[int] = []

    def job(config: Any) -> int:
        if codes and codes[-1] in (ExitCode.INTERRUPTED, ExitCode.STOPPED):
            return codes[-1]
        codes.append(one(config))
        return codes[-1]

    def one(config: Any) -> int:
        from hydra.core.hydra_config import HydraConfig

        from flywheel.compose import checked

        try:
            return _launch(checked(config, HydraConfig.get().runtime.choices), config_dir)
        except FlywheelError as error:
            print(f"{error}", file=sys.stderr)
            return error.exit_code

    return job


def _subcommand(words: list[str]) -> int:
    command = SUBCOMMANDS.get(words[0])
    if command is None:
        hint = near_misses(words[0], SUBCOMMANDS)
        print(
            f"There is no subcommand {words[0]!r}.{hint} A run is started with recipe=NAME; "
            f"subcommands are {', '.join(SUBCOMMANDS)}.",
            file=sys.stderr,
        )
        return ExitCode.REFUSED
    function, arguments = command
    parser = argparse.ArgumentParser(prog=f"python -m flywheel {words[0]}", description=function.__doc__)
    for argument in arguments:
        _ARGUMENTS[argument](parser)
    return function(parser.parse_args(words[1:]))


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], Any]] = {
    "run": lambda p: p.add_argument(
        "run",
        nargs="?",
        default=None,
        metavar="RUN",
        help="directory, RECIPE/NAME, NAME or recipe; default: newest",
    ),
    "runs_dir": lambda p: p.add_argument("--runs-dir", default="runs", help="where runs are kept (runs)"),
    "json": lambda p: p.add_argument("--json", action="store_true", help="print JSON"),
    "config_dir": lambda p: p.add_argument("--config-dir", "-cd", help="a folder with recipes of your own"),
}


def _directory(options: argparse.Namespace) -> Any:
    from flywheel.errors import RunError
    from flywheel.status import all_runs, find_run

    if options.run is not None:
        return find_run(options.run, options.runs_dir)
    runs = all_runs(options.runs_dir)
    if not runs:
        raise RunError(f"There is no run under {options.runs_dir}: name one, or start one with recipe=NAME.")
    return runs[-1]


def _status(options: argparse.Namespace) -> int:
    """Where a run stands: its state, champion and generations."""
    from flywheel.status import read_state, status

    directory = _directory(options)
    if options.json:
        print(json.dumps(status(directory), indent=2))
        return ExitCode.FINISHED
    from rich.console import Console

    from flywheel.trackers.terminal import generations_table

    report = status(directory)
    print(f"{report['run']}  recipe {report['recipe']}  {report['state']}  {report['reason']}".rstrip())
    Console().print(generations_table(read_state(directory)))
    return ExitCode.FINISHED


def _lineage(options: argparse.Namespace) -> int:
    """The tree of generations: parents, verdicts, and the typed edges to what each was made from."""
    from flywheel.status import lineage

    directory = _directory(options)
    entries = lineage(directory)
    if options.json:
        print(json.dumps({"run": str(directory), "generations": entries}, indent=2))
        return ExitCode.FINISHED
    from rich.console import Console

    from flywheel.trackers.tree import lineage_tree

    Console().print(lineage_tree(str(directory), entries))
    return ExitCode.FINISHED


def _verify(options: argparse.Namespace) -> int:
    """Check every line of the ledger, HEAD, and every artifact; name the first bad one."""
    from flywheel.lineage.verify import verify

    directory = _directory(options)
    found = verify(directory)
    if options.json:
        print(json.dumps(found.json(), indent=2))
    elif found.first_bad is None:
        print(f"{directory}: {found.lines} lines and {found.objects} artifacts as written, head {found.head}")
    else:
        print(f"{directory}: {found.first_bad}")
    return ExitCode.FINISHED if found.first_bad is None else ExitCode.FAILED


def _stop(options: argparse.Namespace) -> int:
    """Stop a running run at its next step; the same command as before goes on with it."""
    from flywheel import control
    from flywheel.lineage import lock

    directory = _directory(options)
    if not lock.is_held(directory):
        print(f"{directory} is not running.", file=sys.stderr)
        return ExitCode.REFUSED
    control.request(directory)
    print(f"{directory} will stop at its next step.")
    return ExitCode.FINISHED


def _recipes(options: argparse.Namespace) -> int:
    """What can be run: built-in recipes, those of --config-dir, those of installed packages."""
    from flywheel.compose import recipes

    found = recipes(options.config_dir)
    if options.json:
        print(
            json.dumps([{"name": r.name, "summary": r.summary, "source": r.source} for r in found], indent=2)
        )
        return ExitCode.FINISHED
    for recipe in found:
        print(f"{recipe.name:<16}{recipe.summary}  ({recipe.source})")
    return ExitCode.FINISHED


def _doctor(options: argparse.Namespace) -> int:
    """What is installed, which devices there are, room on disk, W&B login; with remedies."""
    from flywheel.doctor import checks

    found = list(checks(options.runs_dir))
    if options.json:
        print(json.dumps([check.json() for check in found], indent=2))
    else:
        for check in found:
            remedy = f"  ({check.remedy})" if check.remedy else ""
            print(f"{'ok' if check.ok else 'NO':<4}{check.name:<14}{check.found}{remedy}")
    return ExitCode.FINISHED if all(check.ok for check in found) else ExitCode.FAILED


SUBCOMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], tuple[str, ...]]] = {
    "status": (_status, ("run", "runs_dir", "json")),
    "lineage": (_lineage, ("run", "runs_dir", "json")),
    "verify": (_verify, ("run", "runs_dir", "json")),
    "stop": (_stop, ("run", "runs_dir")),
    "recipes": (_recipes, ("config_dir", "json")),
    "doctor": (_doctor, ("runs_dir", "json")),
}
