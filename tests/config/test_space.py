"""What ``tune.space`` and ``tune.constraints`` become, and what is refused, with the remedy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import flywheel
from flywheel.config.components import Components, check_components
from flywheel.config.compose import compose, compose_mapping
from flywheel.errors import ConfigError
from flywheel.space import Dimension, Space
from flywheel.testing import CONFIG_DIR


def moons(tune: dict[str, Any] | None = None, **sections: Any) -> DictConfig:
    return compose_mapping({"recipe": "moons", "tune": tune or {}, **sections}, CONFIG_DIR)


def space(entries: dict[str, Any], constraints: tuple[str, ...] = (), **sections: Any) -> Space:
    tune = {"space": entries, "constraints": list(constraints)}
    return Components(moons(tune, **sections)).space


def one(entry: Any, name: str = "lr", **sections: Any) -> Dimension:
    return space({name: entry}, **sections).dimensions[0]


def refused(entries: dict[str, Any], constraints: tuple[str, ...] = (), **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_components(moons({"space": entries, "constraints": list(constraints)}, **sections))
    return str(error.value)


FREE = {"settings": {"optimizer": "sgd", "momentum": 0.5, "depth": 2, "flag": True, "none": None, "rate": 1}}
"""Settings of a recipe without a class of them."""


def free(entries: dict[str, Any], constraints: tuple[str, ...] = (), **sections: Any) -> DictConfig:
    tune = {"space": entries, "constraints": list(constraints)}
    nodes = OmegaConf.to_container(moons(), resolve=False, enum_to_str=True)
    assert isinstance(nodes, dict)
    model = {**nodes["model"], "width": 8, "lr": "${settings.momentum}"}
    parts = {"task": nodes["task"], "model": model, "grader": nodes["grader"], "tune": tune}
    curator = {"_target_": "flywheel.curators.Confident", "threshold": "${settings.momentum}"}
    return compose_mapping({"recipe": "free", **FREE, **parts, "curator": curator, **sections})


def free_space(entries: dict[str, Any], constraints: tuple[str, ...] = (), **sections: Any) -> Space:
    return Components(free(entries, constraints, **sections)).space


def free_refused(entries: dict[str, Any], constraints: tuple[str, ...] = (), **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_components(free(entries, constraints, **sections))
    return str(error.value)


# what an entry becomes


def test_a_recipe_without_a_space_has_none() -> None:
    assert Components(moons()).space == Space()
    check_components(moons())


def test_ranges_are_of_the_type_of_the_setting() -> None:
    assert one({"low": 1e-4, "high": 0.1, "log": True}) == Dimension("lr", low=1e-4, high=0.1, log=True)
    assert one({"low": 8, "high": 64, "step": 8}, "width") == Dimension("width", low=8, high=64, step=8)
    whole = one({"low": 8.0, "high": 64}, "width")
    assert (type(whole.low), type(whole.high)) == (int, int)
    real = one({"low": 0, "high": 1}, "threshold")
    assert (type(real.low), type(real.high)) == (float, float)
    assert not real.is_integer


def test_without_a_class_the_value_says_the_type() -> None:
    entries = {name: {"low": 1, "high": 3} for name in ("momentum", "depth", "rate")}
    found = {d.name: d for d in free_space(entries).dimensions}
    assert [found[name].is_integer for name in ("momentum", "depth", "rate")] == [False, True, True]
    assert not free_space({"rate": {"low": 0.5, "high": 3}}).dimensions[0].is_integer


def test_choices_are_scalars() -> None:
    entries = {"optimizer": {"choices": ["sgd", "adamw"]}, "flag": {"choices": [True, False]}}
    entries["none"] = {"choices": [None, 1, 2.5, "a"]}
    assert [d.choices for d in free_space(entries).dimensions] == [
        ("sgd", "adamw"),
        (True, False),
        (None, 1, 2.5, "a"),
    ]
    assert one({"choices": [0.5]}).choices == (0.5,)
    assert one({"choices": [0.1, 0.2]}, "threshold").choices == (0.1, 0.2)


def test_a_condition_may_be_of_one_value_and_comes_after_what_it_names() -> None:
    entries = {
        "momentum": {"low": 0.1, "high": 0.9, "when": {"optimizer": "sgd", "depth": [2, 3]}},
        "optimizer": {"choices": ["sgd", "adamw"], "when": {"depth": 2}},
        "rate": {"low": 1, "high": 2},
        "depth": {"low": 1, "high": 4},
    }
    found = free_space(entries).dimensions
    assert [d.name for d in found] == ["depth", "optimizer", "momentum", "rate"]
    assert found[2].when == {"optimizer": ("sgd",), "depth": (2, 3)}


def test_a_condition_may_name_a_setting_outside_of_the_space() -> None:
    assert (
        free_space({"momentum": {"low": 0.1, "high": 0.9, "when": {"optimizer": "adamw"}}}).active(
            FREE["settings"]
        )
        == ()
    )


def test_the_stage_that_a_setting_changes_first_is_found() -> None:
    entry = {"low": 0.1, "high": 0.5}
    assert one(entry, "threshold").redo_from == "curate"  # curator.threshold: ${settings.threshold}
    assert one({**entry, "redo_from": "generate"}, "threshold").redo_from == "generate"
    assert one(entry, "lr").redo_from == "train"
    grader = {"_target_": "flywheel.graders.Confidence", "column": "p-${settings.momentum}"}
    assert free_space({"momentum": entry}, grader=grader).dimensions[0].redo_from == "grade"


def test_a_reference_by_way_of_another_key_counts() -> None:
    curator = {"_target_": "flywheel.curators.Confident", "threshold": "${model.lr}"}
    assert (
        free_space({"momentum": {"low": 0.1, "high": 0.9}}, curator=curator).dimensions[0].redo_from
        == "curate"
    )


def test_null_takes_an_entry_or_a_key_away() -> None:
    assert space({"lr": None, "width": {"low": 8, "high": 16, "step": None}}).dimensions == (
        Dimension("width", low=8, high=16),
    )


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", ".0001", "1E-4"])
def test_numbers_may_be_written_as_people_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    lines = (Path(CONFIG_DIR) / "recipe" / "moons.yaml").read_text()
    tune = f"tune:\n  space:\n    lr: {{low: {text}, high: 1e-1, log: true}}\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(lines + tune)
    assert Components(compose(["recipe=mine"], str(tmp_path))).space.dimensions[0].low == 1e-4
    words = ["recipe=moons", f"tune.space.lr={{low: {text}, high: 0.1}}"]
    assert Components(compose(words, CONFIG_DIR)).space.dimensions[0].low == 1e-4


def test_keys_of_a_space_need_no_plus_on_the_command_line() -> None:
    words = ["tune.space.lr.low=0.1", "tune.space.lr.high=0.2", "tune.space.width.choices=[8,16]"]
    config = compose(["recipe=moons", *words, "+tune.space.steps={low: 1, high: 9}"], CONFIG_DIR)
    assert [d.name for d in Components(config).space.dimensions] == ["lr", "width", "steps"]
    off = compose(["recipe=moons", *words, "tune.space.lr=null"], CONFIG_DIR)
    assert [d.name for d in Components(off).space.dimensions] == ["width"]


# beside the class of settings


@dataclass(kw_only=True)
class Declared:
    steps: int
    lr: float = flywheel.tunable(low=1e-4, high=0.02, log=True)
    width: int = flywheel.tunable(64, low=8, high=64, step=8, shape=True)
    batch_size: int = 32
    threshold: float = flywheel.tunable(choices=[0.0, 0.5])

    def __post_init__(self) -> None:
        if self.lr * self.width > 5:
            raise ValueError(f"lr times width must be at most 5; it is {self.lr * self.width}.")


DECLARED = {"settings._target_": f"{__name__}.Declared"}


def test_a_class_of_settings_declares_a_space_and_the_configuration_stands_above() -> None:
    assert Components(moons(**DECLARED)).space.dimensions == (
        Dimension("lr", low=1e-4, high=0.02, log=True),
        Dimension("width", low=8, high=64, step=8, shape=True),
        Dimension("threshold", choices=(0.0, 0.5), redo_from="curate"),
    )
    entries = {"lr": {"high": 0.01}, "width": None, "threshold": {"low": 0.1, "high": 0.3}}
    entries["steps"] = {"choices": [20, 40]}
    assert space(entries, **DECLARED).dimensions == (
        Dimension("lr", low=1e-4, high=0.01, log=True),
        Dimension("threshold", low=0.1, high=0.3, redo_from="curate"),
        Dimension("steps", choices=(20, 40)),
    )
    assert space({"lr": {"choices": [0.01]}}, **DECLARED).dimensions[0] == Dimension("lr", choices=(0.01,))
    assert Declared(steps=1, lr=0.01, threshold=0.5).width == 64


def test_what_the_class_refuses_is_refused_in_the_space() -> None:
    message = refused({"lr": {"low": 0.01, "high": 0.5}, "width": None}, **DECLARED)
    assert "tune.space.lr" in message
    assert "0.5" in message
    assert "lr times width must be at most 5; it is 32.0" in message
    assert "tune.constraints" in message
    constrained = ("lr * width <= 5",)
    assert space({"lr": {"low": 0.01, "high": 0.5}, "width": None}, constrained, **DECLARED)
    assert "lr must be between 0 and 1; it is 3" in refused({"lr": {"low": 0.1, "high": 3}})
    assert "tune.space.width" in refused({"width": {"choices": [8, "wide"]}})


def test_run_takes_tune_as_it_takes_other_sections() -> None:
    from flywheel.api import _with_tune

    entries = {"space": {"lr": {"low": 0.1, "high": 0.2}}, "lag": 3}
    words = _with_tune(["recipe=moons"], entries)
    mapping = _with_tune({"recipe": "moons", "tune": {"constraints": ["lr < 1"]}}, entries)
    for config in (compose(words, CONFIG_DIR), compose_mapping(mapping, CONFIG_DIR)):  # type: ignore[arg-type]
        assert config.tune.lag == 3
        assert Components(config).space.dimensions == (Dimension("lr", low=0.1, high=0.2),)
    assert config.tune.constraints == ["lr < 1"]


def test_a_configuration_of_before_has_no_space() -> None:
    recorded = OmegaConf.to_container(moons(), resolve=False, enum_to_str=True)
    assert isinstance(recorded, dict)
    del recorded["tune"]
    assert Components(OmegaConf.create(recorded)).space == Space()


# what is refused


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"low": 0.2, "high": 0.1}, ["tune.space.lr: low must be below high; low is 0.2, high is 0.1"]),
        ({"low": 0.1, "high": 0.1}, ["low must be below high", "choices: [0.1]"]),
        ({"low": 0, "high": 0.1, "log": True}, ["with log, low must be above 0; it is 0.0", "log: false"]),
        ({"low": -1, "high": 0.1, "log": True}, ["with log, low must be above 0; it is -1.0"]),
        ({"low": 0.1, "high": 0.5, "step": 0}, ["tune.space.lr.step must be above 0; it is 0.0"]),
        ({"low": 0.1, "high": 0.5, "step": -0.1}, ["tune.space.lr.step must be above 0; it is -0.1"]),
        ({}, ["needs low and high, or choices; it lacks low and high"]),
        ({"high": 0.5}, ["needs low and high, or choices; it lacks low."]),
        ({"low": 0.1, "high": 0.5, "choices": [0.1]}, ["a range or choices, not both", "low, high", "null"]),
        ({"choices": [0.1], "log": True}, ["a range or choices, not both; it has choices and log"]),
        ({"low": 0.1, "hihg": 0.5}, ["no key 'hihg'. Did you mean high?"]),
        ({"low": 0.1, "high": 0.5, "zzz": 1}, ["no key 'zzz'", "low, high, step, log, choices"]),
        ({"low": 0.1, "high": 0.5, "log": "yes"}, ["tune.space.lr.log must be true or false; it is 'yes'"]),
        ({"low": 0.1, "high": 0.5, "shape": 1}, ["tune.space.lr.shape must be true or false; it is 1"]),
        ({"low": float("nan"), "high": 0.5}, ["tune.space.lr.low must be a finite number; it is nan"]),
        ({"low": 0.1, "high": float("inf")}, ["tune.space.lr.high must be a finite number; it is inf"]),
        ({"low": "0.1", "high": 0.5}, ["must be a number; it is the text '0.1'", "without quotes"]),
        ({"low": True, "high": 2}, ["tune.space.lr.low must be a finite number; it is True"]),
        ({"low": [1], "high": 2}, ["tune.space.lr.low must be a finite number; it is [1]"]),
        ({"choices": []}, ["tune.space.lr.choices must be a list of one value or more; it is []"]),
        ({"choices": 0.1}, ["tune.space.lr.choices must be a list of one value or more; it is 0.1"]),
        ({"choices": [0.1, 0.2, 0.1]}, ["must differ; 0.1 is there twice"]),
        ({"choices": [0.1, [0.2]]}, ["finite numbers, texts, true, false or null", "[0.2]"]),
        ({"choices": [0.1, float("nan")]}, ["finite numbers", "nan"]),
        (
            {"low": 0.1, "high": 0.5, "redo_from": "curates"},
            ["generate, grade, curate, train; it is 'curates'"],
        ),
        (
            {"low": 0.1, "high": 0.5, "when": "width"},
            ["tune.space.lr.when must name settings and their values"],
        ),
        ({"low": 0.1, "high": 0.5, "when": {"widht": 8}}, ["no setting 'widht'. Did you mean width?"]),
        ({"low": 0.1, "high": 0.5, "when": {"width": []}}, ["tune.space.lr.when.width must name one value"]),
        (0.1, ["tune.space.lr must say what the setting may be", "choices: [a, b]", "it is 0.1"]),
        ([0.1, 0.2], ["tune.space.lr must say what the setting may be"]),
    ],
)
def test_an_entry_that_says_nothing_sound_is_refused(entry: Any, said: list[str]) -> None:
    message = refused({"lr": entry})
    for words in said:
        assert words in message


def test_a_range_is_of_numbers() -> None:
    assert "width.low must be a whole number" in refused({"width": {"low": 8.5, "high": 16}})
    assert "width.step must be a whole number" in refused({"width": {"low": 8, "high": 16, "step": 0.5}})
    for name in ("optimizer", "flag"):
        assert "only a number has a range" in free_refused({name: {"low": 0, "high": 1}})
    assert "settings.depth is [1, 2]" in free_refused(
        {"depth": {"low": 0, "high": 1}}, settings=FREE["settings"] | {"depth": [1, 2]}
    )


def test_a_choice_that_json_has_no_value_for_is_refused() -> None:
    config = moons({"space": {"lr": {"choices": [0.1]}}})
    writable = OmegaConf.create(OmegaConf.to_container(config, resolve=False, enum_to_str=True))
    for value in (b"bytes", Path("here")):
        writable.tune.space.lr.choices = [0.1, value]
        with pytest.raises(ConfigError, match="finite numbers, texts, true, false or null"):
            check_components(writable)


def test_a_setting_that_does_not_exist_is_refused_with_near_misses() -> None:
    assert "no setting 'wdith'. Did you mean width?" in refused({"wdith": {"low": 1, "high": 2}})
    assert "There are steps, lr, width, batch_size, threshold." in refused({"zzz": {"low": 1, "high": 2}})
    assert "no setting 'wdith'" in refused({"wdith": None})


@pytest.mark.parametrize("name", ["curator.threshold", "curator"])
def test_a_key_that_is_no_setting_is_to_become_one(name: str) -> None:
    entry = {"low": 0.1, "high": 0.2}
    message = refused({name: entry if "." in name else {"threshold": entry}})
    assert "'curator.threshold' is none" in message
    assert "settings.threshold=VALUE, curator.threshold=${settings.threshold}" in message
    assert "give tune.space.lr" in refused({"settings.lr": entry})


@pytest.mark.parametrize(
    "name",
    [
        *("gate.level", "guards.a.margin", "budget.seconds", "error_budget.alpha", "promotion.every"),
        *(
            "review",
            "task.items",
            "tuner.trials",
            "tune.lag",
            "retention.last",
            "seed",
            "suites",
            "audit.size",
            "evaluator",
        ),
    ],
)
def test_what_is_never_tuned_is_refused_by_name(name: str) -> None:
    message = refused({name: {"low": 1, "high": 2}})
    assert f"tune.space.{name} is refused" in message
    assert "evaluator, gate, guards, audit, budget and suites are never tuned" in message


def test_a_setting_by_the_name_of_what_is_never_tuned_is_refused_too() -> None:
    assert "seed is refused" in free_refused(
        {"seed": {"low": 1, "high": 2}}, settings=FREE["settings"] | {"seed": 1}
    )


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("gate.min_effect", "gate.min_effect"),
        ("guards.mine", "guards.mine.margin"),
        ("task.seed_value", "task.seed_value"),
        ("error_budget.alpha", "error_budget.alpha"),
        ("budget.seconds", "budget.seconds"),
        ("chunk_size", "chunk_size"),
    ],
)
def test_a_setting_that_judges_is_refused(key: str, place: str) -> None:
    guard = "{_target_: flywheel.guards.NonInferior, margin: '${settings.lr}', disagreement: 0.03}"
    plus = "+" if key in ("gate.min_effect", "guards.mine") else ""
    value = (
        guard if key == "guards.mine" else "${settings.width}" if key == "chunk_size" else "${settings.lr}"
    )
    name = "width" if key == "chunk_size" else "lr"
    words = [f"{plus}{key}={value}", f"tune.space.{name}={{low: 1, high: 2}}"]
    with pytest.raises(ConfigError) as error:
        check_components(compose(["recipe=moons", *words], CONFIG_DIR))
    assert f"settings.{name} is used by {place}; evaluator, gate, guards" in str(error.value)


def test_a_setting_that_judges_by_way_of_a_text_or_another_key_is_refused() -> None:
    for value in ("${model.lr}", "${.alpha}", "x${settings.momentum}"):
        gate = {"_target_": "flywheel.gates.Paired", "alpha": "${settings.momentum}", "other": value}
        message = free_refused({"momentum": {"low": 0.1, "high": 0.2}}, gate=gate)
        assert "settings.momentum is used by gate." in message


def test_a_stage_that_comes_too_late_to_see_a_change_is_refused() -> None:
    message = refused({"threshold": {"low": 0.1, "high": 0.5, "redo_from": "train"}})
    assert "tune.space.threshold.redo_from must be curate or an earlier stage" in message
    assert "the curator uses settings.threshold" in message


def test_a_condition_on_a_value_that_cannot_be_is_refused() -> None:
    entries = {
        "optimizer": {"choices": ["sgd", "adamw"]},
        "momentum": {"low": 0.1, "high": 0.9, "when": {"optimizer": ["sgd", "sdg"]}},
    }
    message = free_refused(entries)
    assert "tune.space.momentum.when.optimizer must be of values that optimizer may have" in message
    assert "it is 'sdg', and optimizer may be sgd | adamw" in message
    entries["optimizer"] = {"choices": ["adam", "adamw"]}
    entries["momentum"]["when"] = {"optimizer": "sgd"}
    assert len(free_space(entries).dimensions) == 2  # sgd is in force


def test_conditions_in_a_circle_are_refused_by_name() -> None:
    entry = {"low": 1, "high": 3}
    circle = {
        "rate": {**entry, "when": {"depth": 2}},
        "depth": {**entry, "when": {"optimizer": "sgd"}},
        "optimizer": {"choices": ["sgd"], "when": {"rate": 1}},
    }
    message = free_refused({"momentum": {**entry, "when": {"depth": 2}}, **circle})
    assert "depth -> optimizer -> rate -> depth" in message
    assert "depth -> depth" in free_refused({"depth": {**entry, "when": {"depth": 2}}})


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ("width <", ["tune.constraints[0] must be a comparison", "cannot be read"]),
        ("width * lr", ["'width * lr' compares nothing"]),
        ("wdith < 3", ["no setting 'wdith'. Did you mean width?"]),
        ("lr < 1 or wdith < 3", ["no setting 'wdith'"]),
        ("print(width) == 1", ["'print(width)' is neither a number, a setting nor an operation on these"]),
        ("__import__('os').x == 1", ["is neither a number"]),
        ("width in [1]", ["is neither a number"]),
        ("width < 64", ["must hold for the values in force, of settings", "'width < 64'", "width=64"]),
        ("1 / (width - 64) < 1", ["must be computable", "division"]),
    ],
)
def test_a_constraint_that_cannot_serve_is_refused(constraint: str, said: list[str]) -> None:
    message = refused({"width": {"low": 8, "high": 64}}, (constraint,))
    for words in said:
        assert words in message


def test_constraints_hold_for_the_genesis_too_where_it_is_tuned() -> None:
    tune = {"space": {"width": {"low": 8, "high": 128}}, "constraints": ["width <= 64"]}
    with pytest.raises(ConfigError, match="of settings and genesis_settings: 'width <= 64' does not hold"):
        check_components(moons(tune, **{"+genesis_settings.width": 65}))
    check_components(moons({**tune, "genesis": False}, **{"+genesis_settings.width": 65}))


def test_constraints_that_no_point_meets_are_refused() -> None:
    entries = {"width": {"low": 8, "high": 32}, "lr": {"low": 0.1, "high": 0.5}}
    message = refused(entries, ("width >= 64",))
    assert "of 10,000 points none meets 'width >= 64'" in message
    assert space(entries, ("width <= 64", "lr < 0.2 or width > 8"))


def test_settings_in_force_may_be_outside_of_a_range() -> None:
    assert not one({"low": 0.1, "high": 0.5}).allows(0.01)  # lr is 0.01


def test_a_space_is_checked_before_anything_heavy() -> None:
    program = (
        "import sys\n"
        "from flywheel.config.components import check_components\n"
        "from flywheel.config.compose import compose\n"
        "from flywheel.testing import CONFIG_DIR\n"
        "config = compose(['recipe=moons', 'tune.space.lr={low: 2, high: 1}'], CONFIG_DIR)\n"
        "try:\n"
        "    check_components(config)\n"
        "except Exception as error:\n"
        "    print(error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("high is 1.0. False")
