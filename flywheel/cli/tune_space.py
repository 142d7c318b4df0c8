"""What a tuner may search, and what the generations of a run chose: ``tune-space RECIPE|RUN``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.config.components import Components
from flywheel.records import Answer, Scalar, Settings
from flywheel.space import Dimension, Space
from flywheel.storage.state import Generation, RunState


class SearchedSetting(Answer, frozen=True):
    """A setting of the space."""

    setting: str
    may_be: str
    """Its range or choices for people, e.g. ``0.0001 .. 0.1, log``."""
    dimension: Dimension
    redo_from: str
    """The first stage that it changes."""
    current: Scalar
    """The value in force: the configured one, or of a run what its next generation begins with."""
    is_inside: bool
    """Whether the space allows that value; trial 0 has it in any case."""
    is_searched: bool
    """Whether its condition holds with the settings in force."""


class ChosenSettings(Answer, frozen=True):
    """What the tuner of a generation chose."""

    generation: int
    status: str
    trials: int
    trial: int | None
    """The trial whose settings these are; None: they are of none."""
    settings: Mapping[str, Scalar]
    """Those of the space."""
    reason: str


class SpaceReport(Answer, frozen=True):
    """A space, the settings in force, and what was chosen."""

    recipe: str
    run: str | None
    tuner: str
    """Its class."""
    settings: Sequence[SearchedSetting]
    constraints: Sequence[str]
    generations: Sequence[ChosenSettings]
    """Those of a run that tuned, the oldest first."""


def space_report(
    components: Components, run: str | None = None, state: RunState | None = None
) -> SpaceReport:
    """The space of a configuration, or of a run in a state. Raises ConfigError."""
    space, tuner = components.space, components.resolved["tuner"]
    in_force = _in_force(components, state)
    active = {dimension.name for dimension in space.active(in_force)}
    tuned = [g for g in (state.generations if state else ()) if g.tune and not g.refit_of]
    return SpaceReport(
        components.resolved["recipe"],
        run,
        str(tuner.get("_target_", "given as an object")),
        [
            SearchedSetting(
                setting=one.name,
                may_be=str(one),
                dimension=one,
                redo_from=one.redo_from,
                current=in_force[one.name],
                is_inside=one.allows(in_force[one.name]),
                is_searched=one.name in active,
            )
            for one in space.dimensions
        ],
        space.constraints,
        [_chosen(space, generation) for generation in tuned],
    )


def _in_force(components: Components, state: RunState | None) -> Settings:
    parent = state.frontier if state else None
    if parent is None:
        return components.settings()
    return components.settings_after_genesis(parent.settings) if parent.is_genesis else parent.settings


def _chosen(space: Space, generation: Generation) -> ChosenSettings:
    assert generation.tune is not None
    facts = generation.tune.facts
    return ChosenSettings(
        generation=generation.number,
        status=str(generation.status),
        trials=facts.units.count if facts.units else 0,
        trial=facts.trial,
        settings={
            one.name: facts.settings[one.name] for one in space.dimensions if one.name in facts.settings
        },
        reason=facts.reason,
    )
