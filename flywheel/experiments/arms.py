"""The arms of the controls: the loop as it is, and the loop with one part off at a time.

An arm is a set of changes to a recipe's configuration, whatever the recipe: keys, and parts around its own
parts. No recipe is known by name. An arm that cannot be of a recipe says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flywheel.config.components import Components, locate
from flywheel.config.compose import compose
from flywheel.errors import ConfigError, near_misses, wrap_user_errors
from flywheel.records import Role, Suite
from flywheel.storage.policy import GREEDY
from flywheel.tuners import Fixed

LOOP = "loop"
_PARTS = "flywheel.experiments.control_parts"
Changes = dict[str, Any]
"""Key of the configuration -> its new value, whole."""
Config = Mapping[str, Any]
"""A configuration, or a section of it."""


@dataclass(frozen=True)
class Recipe:
    """The recipe that is controlled, as the words of the command make it."""

    words: tuple[str, ...]
    config_dir: str | None = None

    @cached_property
    def components(self) -> Components:
        """What it is built from. Raises ConfigError."""
        return Components(compose(self.words, self.config_dir))

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.components.resolved

    @cached_property
    def sections(self) -> Config:
        """The configuration as it was written, references unresolved."""
        from omegaconf import OmegaConf

        sections: Any = OmegaConf.to_container(self.components.config, resolve=False, enum_to_str=True)
        return dict(sections)

    @cached_property
    def suites(self) -> list[Suite]:
        """The task's suites. Raises ConfigError or DataError as a run would."""
        with wrap_user_errors("The recipe's task must be buildable and readable:"):
            return list(self.components.task.suites())

    @property
    def sealed(self) -> list[Suite]:
        """Those on which arms are compared."""
        return [suite for suite in self.suites if suite.role == Role.SEALED]

    @property
    def trusted(self) -> Config | None:
        """The trusted grader of its audits; None: it has none."""
        grader: Config | None = (self.config.get("audit") or {}).get("grader")
        return grader or None


@dataclass(frozen=True, slots=True)
class Arm:
    """The loop with one part off."""

    name: str
    off: str
    """What the loop has and this arm has not, e.g. ``generated samples``."""
    does: str
    """What it does instead, for people."""
    changes: Callable[[Recipe], Changes]
    why_not: Callable[[Recipe], str] = lambda _: ""
    """Why it cannot be of a recipe; empty: it can."""


def _around(recipe: Recipe, section: str, part: str, **more: Any) -> Changes:
    return {section: {"_target_": f"{_PARTS}.{part}", section: recipe.sections[section], **more}}


def _without_audit(recipe: Recipe) -> Changes:
    """No audit that could correct what a control switches off."""
    return {"audit": {**recipe.sections["audit"], "grader": None}} if recipe.trusted else {}


def _ungated(recipe: Recipe, rule: str) -> Changes:
    """Without a frontier; guards are asked at looks, of which there is none."""
    promotion = {"rule": rule, "every": None, "patience": None, "harm": None}
    return {"promotion": promotion, "guards": dict.fromkeys(recipe.sections["guards"])}


def _is_tuned(recipe: Recipe) -> bool:
    target = recipe.sections["tuner"].get("_target_")
    tuner = locate("tuner._target_", target) if target else None
    return not (isinstance(tuner, type) and issubclass(tuner, Fixed))


def _has_dev(recipe: Recipe) -> bool:
    return any(suite.role == Role.DEV for suite in recipe.suites)


_TUNER_OFF: Changes = {"tuner": {"_target_": "flywheel.tuners.Fixed"}}
ARMS = {
    arm.name: arm
    for arm in (
        Arm(
            "no-generation",
            "generated samples",
            "the corpus of each turn is made of human rows only",
            lambda recipe: _around(recipe, "curator", "HumanOnly") | _without_audit(recipe),
        ),
        Arm(
            "no-grading",
            "grading",
            "all rows get the same top score, and no audit is made",
            lambda recipe: _around(recipe, "grader", "SameScore") | _without_audit(recipe),
        ),
        Arm(
            "trusted-grader",
            "its own grader in place of the trusted one",
            "rows get the score of the audit's trusted grader",
            lambda recipe: (
                _around(
                    recipe,
                    "grader",
                    "TrustedScore",
                    trusted=recipe.sections["audit"]["grader"],
                    column=recipe.config["audit"].get("column"),
                )
                | _without_audit(recipe)
            ),
            lambda recipe: "" if recipe.trusted else "the recipe has no trusted grader, audit.grader",
        ),
        Arm(
            "no-audit",
            "audits",
            "what the grader says is checked by nobody",
            _without_audit,
            lambda recipe: "" if recipe.trusted else "the recipe has no audits, audit.grader",
        ),
        Arm(
            "no-warm-start",
            "candidates that start from earlier weights",
            "each candidate starts from fresh weights",
            lambda _: {"init": "fresh"},
            lambda recipe: "init is fresh already" if recipe.config["init"] == "fresh" else "",
        ),
        Arm(
            "no-tuning",
            "tuning",
            "settings stay as configured; what trials cost is spent on turns",
            lambda _: _TUNER_OFF,
            lambda recipe: "" if _is_tuned(recipe) else "the tuner is Fixed already: nothing is tuned",
        ),
        Arm(
            "greedy-gate",
            "a gate that asks for evidence",
            "what has the higher mean on dev becomes champion, and no guard is asked",
            lambda recipe: _ungated(recipe, GREEDY),
            lambda recipe: (
                "promotion is greedy already"
                if recipe.config["promotion"]["rule"] == GREEDY
                else ""
                if _has_dev(recipe)
                else "the task has no suite with role dev, by which promotion=greedy judges"
            ),
        ),
        Arm(
            "more-training",
            "turns in place of more training",
            "no turn at all: one longer fit on the seed samples, with the settings of the genesis",
            lambda _: _TUNER_OFF,  # the fit's length follows from the loop: see controls
            lambda recipe: (
                ""
                if recipe.config["genesis"] == "train"
                else f"genesis={recipe.config['genesis']} trains on no seed samples"
            ),
        ),
        Arm(
            "labels-used",
            "the labels of dev and gate held out",
            "they are seed samples from the start, and every candidate is promoted: nothing is left to ask",
            lambda recipe: (
                _around(recipe, "task", "LabelsUsed")
                | _ungated(recipe, "each")
                | {"gate": {"_target_": f"{_PARTS}.PromoteAll"}}
            ),
            lambda recipe: (
                ""
                if hasattr(recipe.components.task, "samples_of")
                else "the task has no samples_of(items), which says how an item becomes a sample"
            ),
        ),
        Arm(
            "no-rivals",
            "rivals",
            "the parent alone answers prompts; what rivals' answers cost is in the wall time only",
            lambda _: {"rivals": {}},
            lambda recipe: "" if recipe.config["rivals"] else "the recipe has no rivals",
        ),
        Arm(
            "uniform-prompts",
            "directed prompts",
            "prompts are not directed to what dev shows to be weak: task.policy is null",
            lambda recipe: {"task": {**recipe.sections["task"], "policy": None}},
            lambda recipe: (
                ""
                if recipe.config["task"].get("policy")
                else "the recipe has no policy that directs prompts, task.policy"
            ),
        ),
    )
}
"""All but the loop itself, by name."""


def chosen_arms(recipe: Recipe, names: Sequence[str] | None) -> tuple[list[Arm], dict[str, str]]:
    """The arms of these names, by default all that can be of the recipe; and why the others cannot.

    Raises ConfigError for a name that there is not, and for a named arm that cannot be.
    """
    for name in names or ():
        if name not in (LOOP, *ARMS):
            hint = near_misses(name, (LOOP, *ARMS))
            raise ConfigError(f"There is no arm {name!r}.{hint} Arms are {', '.join((LOOP, *ARMS))}.")
    wanted = [arm for arm in ARMS.values() if names is None or arm.name in names]
    reasons = {arm.name: reason for arm in wanted if (reason := arm.why_not(recipe))}
    if names is not None and reasons:
        name, reason = next(iter(reasons.items()))
        raise ConfigError(
            f"The arm {name} cannot be of recipe {recipe.config['recipe']}: {reason}. Leave it out of --arms."
        )
    return [arm for arm in wanted if arm.name not in reasons], reasons
