"""What the loop is worth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_config_dir, add_json, reply
from flywheel.errors import ExitCode
from flywheel.trackers.console import printable

if TYPE_CHECKING:
    from flywheel.experiments.controls import Contribution, Controls


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "words", nargs="+", metavar="recipe=NAME", help="the recipe and other overrides, as for a run"
    )
    parser.add_argument("--seeds", default="5", help="5: five of them, from 0 on; or 100-104; or 3,7 (5)")
    parser.add_argument("--budget", help="what the loop of a seed may take: 90s, 2.5m, 1h (its own turns)")
    parser.add_argument("--arms", help="names, with commas; default: all that can be of the recipe")
    parser.add_argument("--metric", help="SUITE/METRIC to compare by; default: the first sealed one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (1)")
    parser.add_argument("--table", action="store_true", help="run nothing, and tell of what is there")
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What each part of a recipe's loop contributes: the loop beside arms with one part off.

    All arms of a seed have the training FLOPs of its loop. Each is an ordinary run; the same command goes on
    where it was stopped. docs/controls.md says what the arms are and how to read the table.
    """
    from flywheel.experiments.controls import Experiment, Stopped

    def report(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    experiment = Experiment.of(
        options.words,
        seeds=options.seeds,
        budget=options.budget,
        arms=None if options.arms is None else [name.strip() for name in options.arms.split(",")],
        metric=options.metric,
        jobs=options.jobs,
        config_dir=options.config_dir,
    )
    if not options.table:
        try:
            experiment.run(report)
        except (Stopped, KeyboardInterrupt) as stop:
            report(f"{stop or 'Stopped'}. The same command goes on; with --table it tells of what is there.")
            return ExitCode.STOPPED
    answer = experiment.answer()
    reply(options, answer, _parts(answer))
    is_whole = options.table or all(run.sealed for run in answer.runs)
    return ExitCode.FINISHED if is_whole else ExitCode.FAILED


def _parts(controls: Controls) -> Iterator[str]:
    from flywheel.experiments.controls import difference_text, value_text

    seeds = ", ".join(map(str, controls.seeds))
    yield (
        f"Controls of recipe {controls.recipe}: {controls.metric} on {controls.suite}, sealed; the loop has "
        f"{controls.budget} a seed, seeds {seeds}"
    )
    yield ""
    rows = []
    for one in controls.contributions:
        score = one.score
        unit = score.difference.unit if score else None
        figures = [value_text(value, unit) for value in (score.loop, score.arm)] if score else ["-", "-"]
        difference = difference_text(score.difference) if score else "-"
        rows.append([one.arm, *figures, difference, *_ratio_texts(one), str(len(one.seeds))])
    yield from _markdown(
        ["arm", "loop", "arm's", "loop - arm [95%]", "FLOPs, farthest", "wall time", "seeds"], rows
    )
    yield ""
    for one in controls.contributions:
        yield f"- {one.arm} ({one.does}): {one.sentence}"
    yield from _others(controls)
    notes = [f"- {one.arm}, {note}" for one in controls.contributions for note in one.notes]
    yield from ["", "Runs that are not what they were to be:", *dict.fromkeys(notes)] if notes else []
    yield from [f"- no arm {arm}: {why}" for arm, why in controls.not_applicable.items()]
    yield ""
    yield (
        "Intervals are Student's, of paired differences, each at 95% by itself. FLOPs and wall time: arm / "
        f"loop. Runs are in {controls.folder}."
    )


def _ratio_texts(one: Contribution) -> list[str]:
    if one.flops_ratio is None or one.flops_farthest is None or one.seconds_ratio is None:
        return ["-", "-"]
    return [f"{one.flops_ratio:.3f}, {one.flops_farthest:.3f}", f"{one.seconds_ratio:.2f}"]


def _others(controls: Controls) -> Iterator[str]:
    """The same for the other sealed suites and metrics."""
    from flywheel.experiments.controls import difference_text

    shown = [one for one in controls.contributions if one.others]
    if not shown:
        return
    names = [(other.suite, other.metric) for other in shown[0].others]
    yield from ["", "Other sealed figures, loop - arm [95%]:", ""]
    rows = [[one.arm, *(difference_text(other.difference) for other in one.others)] for one in shown]
    yield from _markdown(["arm", *(f"{metric} on {suite}" for suite, metric in names)], rows)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
