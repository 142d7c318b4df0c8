"""How likely a run is to see a gain."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_config_dir, add_json, add_runs_dir, reply, run_named
from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flywheel.experiments import Power, Report, SelfCheck, Simulated


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="recipe=NAME|RUN",
        help="the recipe and other overrides, as for a run; or a run: directory, RECIPE/NAME, NAME or recipe",
    )
    parser.add_argument("--gain", type=float, default=0.01, help="of the mean score (0.01: one point)")
    add_runs_dir(parser)
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """How likely the gate promotes a candidate that is better by a gain, and one that is not.

    Of a recipe, before a run: over a range of items won or lost. Of a run: by resampling its own pairs, with
    a check whether its gate keeps its promise on them.
    """
    from flywheel.config.search_path import add_working_directory
    from flywheel.experiments import Report, power_of_recipe, report_of_run

    add_working_directory()
    words = options.words
    if any("=" in word for word in words):
        report = Report(power_of_recipe(words, options.gain, options.config_dir), None)
    elif len(words) == 1:
        from flywheel.api import open_run

        report = report_of_run(
            open_run(run_named(words[0], options.runs_dir), options.config_dir), options.gain
        )
    else:
        raise ConfigError(f"Expected one run, or recipe=NAME with overrides; got {' '.join(words)}.")
    return reply(options, report, _parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    if report.power is None:
        yield "No candidate of this run ever won an item: there are no pairs with a gain to draw from."
    else:
        yield from _power_parts(report.power)
    if report.check is None:
        return
    for fault in report.check.faults:
        yield Text(fault, "red")
    if not report.check.faults:
        yield _held_text(report.check)


def _power_parts(power: Power) -> Iterator[RenderableType]:
    from flywheel.cli.rendering import grid_of
    from flywheel.experiments.power import points_text

    amount = f"{power.items} items" + (
        f" in {power.clusters} clusters" if power.clusters < power.items else ""
    )
    yield (
        f"{power.of}: {amount}, gate {power.gate}, error {power.alpha:g} over {power.looks} looks, "
        f"{power.level:.3g} at the first"
    )
    gain = points_text(power.gain)
    beyond = "mean difference" if power.own_looks else "won or lost"
    columns = (beyond, "first look", f"{power.looks} looks", "false promotion", "items for 80%")
    rows = [
        (
            f"{case.disagreement:.2%}",
            _chance_text(case.at_one_look),
            _chance_text(case.over_the_run),
            _chance_text(case.false_promotion),
            f"about {case.items_needed:,}" if case.items_needed else "none",
        )
        for case in power.cases
    ]
    yield grid_of(columns, rows) or "No case can be reckoned."
    if power.own_looks:
        yield f"Drawn from the pairs of {power.own_looks} looks of this run, weighted to a gain of {gain}."
    else:
        yield "For 0/1 scores. won or lost: the share of items beyond the gain; clusters go as a whole."
    yield (
        f"first look: a gain of {gain} is promoted there. {power.looks} looks: any of them promotes, if "
        "every candidate is better by that until then. false promotion: any promotes though none is better. "
        f"Simulated by {power.draws} draws each, with the standard error; looks correlate by "
        f"{power.correlation:.2g}."
    )


def _chance_text(chance: Simulated) -> str:
    return f"{chance.value:.1%} ± {100 * chance.standard_error:.1f}"


def _held_text(check: SelfCheck) -> str:
    """What a check says that found nothing."""
    checked = [look for look in check.looks if look.draws]
    if not checked:
        return "The gate cannot be checked on this run's pairs: no look has items won and items lost."
    draws = sum(2 * look.draws for look in checked)
    promoted = sum(look.promoted + look.promoted_exchanged for look in checked)
    level = sum(look.level for look in checked) / len(checked)
    return (
        f"On this run's own pairs the gate promotes {promoted / draws:.2%} of {draws} candidates that are no "
        f"better; its level is {level:.2%}."
    )
