"""What a tuner may search."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flywheel.cli.commands import add_config_dir, add_json, add_runs_dir, reply, run_named
from flywheel.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flywheel.cli.tune_space import SearchedSetting, SpaceReport

_SHOWN = 6
"""Generations beside each other, the newest ones."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RECIPE|RUN",
        help="a recipe and overrides, as for a run; or a run: directory, RECIPE/NAME or NAME",
    )
    add_runs_dir(parser)
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What a tuner may search: each setting's range, its value in force, and the stage that it changes first.

    Of a run also what each generation chose, and from how many trials. A name that a recipe and runs have is
    the recipe's. Nothing is built or trained.
    """
    from flywheel.config.search_path import add_working_directory, recipes

    add_working_directory()
    first, *more = options.words
    if first in [recipe.name for recipe in recipes(options.config_dir)]:
        first = f"recipe={first}"
    report = _of_recipe([first, *more], options) if "=" in first else _of_run(first, more, options)
    return reply(options, report, _parts(report))


def _of_recipe(overrides: Sequence[str], options: argparse.Namespace) -> SpaceReport:
    from flywheel.cli.tune_space import space_report
    from flywheel.config.components import Components
    from flywheel.config.compose import compose

    return space_report(Components(compose(overrides, options.config_dir)))


def _of_run(name: str, more: Sequence[str], options: argparse.Namespace) -> SpaceReport:
    from omegaconf import OmegaConf

    from flywheel.cli.tune_space import space_report
    from flywheel.config.components import Components
    from flywheel.config.recorded import recorded_config
    from flywheel.config.remembered import remembered
    from flywheel.launch.recorded import refuse_unknown
    from flywheel.lineage.status import read_state

    if more:
        raise ConfigError(
            f"A run has its settings; got {' '.join(more)} beside {name}. Name a recipe instead."
        )
    path = run_named(name, options.runs_dir)
    state, known = read_state(path), remembered(path)
    components = Components(OmegaConf.create(recorded_config(path, state.session)))
    nodes, config_dir = components.resolved["settings"], options.config_dir or known.config_dir
    refuse_unknown(path, nodes, config_dir, known.trusted)  # the space may be declared by their class
    return space_report(components, str(path), state)


def _parts(report: SpaceReport) -> Iterator[RenderableType]:
    from rich.text import Text

    from flywheel.cli.rendering import grid_of, section

    about = f"run {report.run}" if report.run else f"recipe {report.recipe}"
    if not report.settings:
        yield (
            f"{about} has no space: its settings stay as they are, with any tuner. To add one, say what a "
            "setting may be, in YAML or as an override:\n"
            "    tune.space.lr={low: 0.0001, high: 0.1, log: true}\n"
            "A value that is no setting yet becomes one: settings.NAME=VALUE, and ${settings.NAME} where it "
            "is used. See docs/tuning.md."
        )
    else:
        yield Text(about, "bold").append(f"  {report.tuner}", "dim")
        columns = ("setting", "may be", "in force", "changes first", "only where")
        yield section("space", grid_of(columns, map(_row, report.settings)))
        yield section("constraints", *report.constraints)
    yield section("chosen", _chosen(report))


def _row(one: SearchedSetting) -> tuple[Any, ...]:
    from flywheel.cli.rendering import plain_text

    value = plain_text(one.current) + ("" if one.is_inside else " (outside)")
    conditions = [f"{name} is {' or '.join(map(plain_text, of))}" for name, of in one.dimension.when.items()]
    if conditions and not one.is_searched:
        conditions.append("not now")
    shape = ", shape" if one.dimension.shape else ""
    return one.setting, one.may_be, value, one.dimension.redo_from + shape, ", ".join(conditions)


def _chosen(report: SpaceReport) -> RenderableType | None:
    """A column for each of the newest generations that tuned."""
    from flywheel.cli.rendering import grid_of

    shown = report.generations[-_SHOWN:]
    if not any(one.trials for one in report.generations):
        return None
    names = [one.setting for one in report.settings]
    rows = [["trials", *(one.trials for one in shown)]]
    rows += [[name, *(one.settings.get(name) for one in shown)] for name in names]
    rows.append(["became", *(one.status for one in shown)])
    left = len(report.generations) - len(shown)
    caption = f"{left} earlier ones are in --json" if left else ""
    return grid_of(("", *(f"gen {one.generation}" for one in shown)), rows, caption)
