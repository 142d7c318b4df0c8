"""The subcommands: a module each, with ``arguments(parser)`` and ``main(options)``, imported when named.

A module's name with hyphens for underscores is the subcommand's, and ``main``'s docstring its help. What
``--help`` and README list is ``SUBCOMMANDS``.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel.errors import ExitCode
from flywheel.trackers.console import plain_console, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from rich.console import RenderableType

    from flywheel.api import Run
    from flywheel.launch.launch import Launched


class Subcommand(NamedTuple):
    """A subcommand as help and README list it. No dataclass: ``--help`` goes without their module."""

    usage: str
    """Its name and arguments, e.g. ``status [RUN]``."""
    answers: str
    """What it does, in the words of --help."""

    @property
    def name(self) -> str:
        """Its first word."""
        return self.usage.partition(" ")[0]


SUBCOMMANDS = (
    Subcommand("status [RUN]", "where a run stands"),
    Subcommand("lineage [RUN]", "the tree of generations, and what each was made from"),
    Subcommand(
        "samples [RUN] [GEN] [--kept|--dropped] [--show]",
        "what a generation made, with scores and what became of it; --show: as the recipe draws them",
    ),
    Subcommand(
        "audit [RUN] [GEN] [--out FILE|--labels FILE]",
        "how many of the samples that a turn kept are right; rows for a person to label",
    ),
    Subcommand(
        "evaluate [RUN] --items FILE [--generation N]",
        "how good a generation is on items of your own (.csv, .jsonl, .parquet)",
    ),
    Subcommand(
        "show [RUN] [GEN]",
        "all that made a generation: data by origin, settings, code, seeds, outcomes, cost",
    ),
    Subcommand(
        "diff [RUN] A B", "how two generations differ, and which items flipped; RUN@N names another run's"
    ),
    Subcommand("report [RUN ...] [--out FILE]", "what came of a run as one HTML page; of several, compared"),
    Subcommand('query RUN "SELECT ..."', "SQL over generations, events, samples, decisions, outcomes, edges"),
    Subcommand(
        "trace [RUN] --sample ID|--generation N|--item SUITE/ITEM",
        "what it came from, down to human samples, and what came of it",
    ),
    Subcommand(
        "recall [RUN] --generation N|--where SQL --why TEXT",
        "what descends from a flaw; with --yes, takes it back",
    ),
    Subcommand(
        "tournament [RUN] [--suite NAME|--items FILE] [--generations 0,3]",
        "whether an earlier champion beats the one in force: all of them on the same items, or in duels",
    ),
    Subcommand("rollback RUN GEN --why TEXT", "makes a former champion the champion again"),
    Subcommand("resume RUN key=value", "continues a run from what it recorded; operational keys only"),
    Subcommand("fork RUN@GEN key=value", "starts a new run from a generation; resume continues it"),
    Subcommand(
        "review [RUN] [--yes|--no --by NAME]",
        "what a run asks its reviewer; the answer, which is bound to just that",
    ),
    Subcommand(
        "reproduce RUN GEN",
        "trains a generation again from what is recorded and compares; exit code 1: different",
    ),
    Subcommand(
        "bundle RUN GEN --out DIR", "a generation to hand over: weights, model card, lineage, manifest"
    ),
    Subcommand("sign DIR --key KEY", "signs a bundle"),
    Subcommand("verify-bundle DIR [--key PUB] [--run RUN]", "names every file of a bundle that differs"),
    Subcommand(
        "power recipe=NAME|RUN [--gain 0.01]",
        "how likely the gate sees such a gain, before a run and after; a check of the gate on the run's data",
    ),
    Subcommand(
        "controls recipe=NAME [--seeds 5] [--budget 90s] [--arms a,b]",
        "what each part of the loop is worth: arms with one part off, at equal training FLOPs",
    ),
    Subcommand(
        "tune-space RECIPE|RUN [key=value]",
        "what a tuner may search, the values in force, and what earlier generations chose",
    ),
    Subcommand("du [RUN]", "what takes the room, and what prune could free"),
    Subcommand(
        "prune [RUN] [--promoted] [--last N]",
        "keeps all champions (`--promoted`), the last N, or both, and what the run needs, "
        "and drops the rest; a dry run without --yes",
    ),
    Subcommand(
        "verify [RUN] [--head HASH]",
        "whether all is as written, and HASH, a head that you kept, is still in the ledger",
    ),
    Subcommand(
        "sync RUN [--offline]",
        "shows a run in Weights & Biases: what its ledger says and W&B has not yet",
    ),
    Subcommand("stop [RUN]", "stops a running run at its next step"),
    Subcommand("new NAME", "writes a recipe of your own, which runs at once, into NAME/"),
    Subcommand("recipes", "what can be run"),
    Subcommand("doctor", "what is installed, devices, disk, W&B login, with remedies"),
)
NAMES = sorted(subcommand.name for subcommand in SUBCOMMANDS)

_LONG = 1000


def run(name: str, words: list[str]) -> int:
    """Answer a subcommand and return the exit code."""
    module = import_module(f"flywheel.cli.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"python -m flywheel {name}", description=module.main.__doc__)
    module.arguments(parser)
    code: int = module.main(parser.parse_intermixed_args(words))
    return code


def add_run(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """The argument RUN, and where runs are kept."""
    nargs, default = (None, "") if required else ("?", "; default: newest")
    names = f"directory, RECIPE/NAME, NAME or recipe{default}"
    parser.add_argument("run", nargs=nargs, metavar="RUN", help=names)
    add_runs_dir(parser)


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    """The argument --runs-dir."""
    parser.add_argument("--runs-dir", default="runs", help="where runs are kept (runs)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The argument --json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """The argument --config-dir."""
    parser.add_argument("--config-dir", "-cd", help="a folder with recipes of your own")


def run_named(name: str, runs_dir: str, *, changes: bool = False) -> Path:
    """The run of a name; of several the newest, and says so, unless it ``changes``: then raises RunError."""
    from flywheel.lineage.status import find_run, find_runs

    path = find_run(name, runs_dir, changes=changes)
    several = 0 if changes else len(find_runs(name, runs_dir))
    if several > 1:
        print(f"{name!r} is the name of {several} runs; this is about the newest, {path}.", file=sys.stderr)
    return path


def directory_of(options: argparse.Namespace, *, changes: bool = False) -> Path:
    """The run that RUN names, by default the newest. Raises RunError if there is none; see ``run_named``."""
    from flywheel.errors import RunError
    from flywheel.lineage.status import all_runs

    if options.run is not None:
        return run_named(options.run, options.runs_dir, changes=changes)
    runs = all_runs(options.runs_dir)
    if not runs:
        raise RunError(f"There is no run under {options.runs_dir}: name one, or start one with recipe=NAME.")
    return runs[-1]


def generation_word(text: str) -> int | str:
    """A generation as it is named: its number, ``champion``, ``last`` or ``final``."""
    from flywheel.records import CHAMPION, FINAL, LAST

    if not (text.isdecimal() or text in (CHAMPION, LAST, FINAL)):
        raise argparse.ArgumentTypeError(
            f"Expected a generation: its number, champion, last or final; got {text!r}."
        )
    return int(text) if text.isdecimal() else text


def generation_of_run(text: str) -> tuple[str, int | str]:
    """The run, empty if none is named, and the generation of ``RUN@GEN`` or ``GEN``."""
    run, _, which = text.rpartition("@")
    return run, generation_word(which)


def ending(launched: Launched) -> int:
    """Say how a run that was launched ended, unless its ``log`` is for machines; the exit code."""
    from flywheel import ranks
    from flywheel.api import Run
    from flywheel.lineage.status import is_untested
    from flywheel.trackers.redraw import drawn_report

    if ranks.rank() == 0 and launched.log not in ("json", "quiet"):
        run = Run.of(launched, {})
        status = run.status()
        if status.champion:
            champion = run.champion()
            untested = ", promoted without a test" if is_untested(champion.record, champion.state) else ""
            print(f"champion  generation {champion.number}{untested}, {champion.file}")
        print(f"run       {run.path}, {status.state}\nhead      {status.head}")
        if (report := drawn_report(run.path)) is not None:
            print(f"report    {report}")
        if launched.exit_code is ExitCode.FINISHED and not launched.was_finished:
            _print_summary(run)
    return int(launched.exit_code)


def _print_summary(run: Run) -> None:
    """What a finished run's pairs say of its gate: its power if nothing was promoted, and what is wrong."""
    from rich.text import Text

    from flywheel.experiments import summary_of_run

    try:
        summary = summary_of_run(run)
    except Exception:  # of a gate or files of the user's own: the run itself has ended well
        return
    if summary.power:
        print(f"power     {summary.power}")
    for fault in summary.faults:
        plain_console().print(Text(fault, "red"))


def reply(options: argparse.Namespace, answer: Any, parts: Iterable[RenderableType]) -> int:
    """Print an answer: as JSON if asked to, else its parts for people. The exit code of what went well."""
    if options.json:
        print_json(answer)
        return ExitCode.FINISHED
    for part in filter(None, parts):
        if isinstance(part, str):
            print(printable(part))
        else:
            plain_console().print(part)
    return ExitCode.FINISHED


def print_json_lines(rows: pa.Table) -> None:
    """Print a table as JSON, a row a line. What JSON has no type for, e.g. a date, becomes text."""
    for batch in rows.to_batches():
        for row in batch.to_pylist():
            print(json.dumps(row, ensure_ascii=False, default=str))


def print_json(value: Any) -> None:
    """Print an answer, or another value, as JSON: indented, but each entry of a long list on its own line.

    Python writes JSON fast only without an indent. What JSON has no type for, e.g. a date, becomes text.
    """
    from flywheel.records import Answer
    from flywheel.storage.ledger import no_garbage_collection

    with no_garbage_collection():
        print(_pretty(value.json() if isinstance(value, Answer) else value, ""))


_one_line = json.JSONEncoder(default=str).encode


def _pretty(value: Any, margin: str) -> str:
    inner = margin + "  "
    if isinstance(value, dict) and any(isinstance(v, list) and len(v) > _LONG for v in value.values()):
        entries = [f"{json.dumps(key)}: {_pretty(v, inner)}" for key, v in value.items()]
        return "{\n" + ",\n".join(inner + entry for entry in entries) + f"\n{margin}}}"
    if isinstance(value, list) and len(value) > _LONG:
        return "[\n" + ",\n".join(inner + _one_line(entry) for entry in value) + f"\n{margin}]"
    return json.dumps(value, indent=2, default=str).replace("\n", "\n" + margin)
