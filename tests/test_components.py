from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from flywheel.components import (
    Components,
    check_components,
    check_module,
    check_settings,
    check_target,
    identity,
    identity_part,
    locate,
    targets_in,
)
from flywheel.compose import compose
from flywheel.errors import ConfigError
from flywheel.schema import OPERATIONAL
from flywheel.testing import CONFIG_DIR

GATE = "flywheel.gates.paired.PairedGate"
MOONS = "flywheel.testing.moons.task.Moons"


def moons(*overrides: str) -> DictConfig:
    return compose(["recipe=moons", *overrides], CONFIG_DIR)


@functools.cache
def unchanged() -> str:
    return identity(moons())


def refused(node: dict[str, Any], section: str = "gate") -> str:
    with pytest.raises(ConfigError) as error:
        check_target(section, node)
    return str(error.value)


def module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def test_the_components_of_the_test_recipe_pass() -> None:
    config = moons()
    check_components(config)
    check_module(Components(config))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("flywheel.gates.paird.PairedGate", "No module named 'flywheel.gates.paird'"),
        ("flywheel.gates.paired.PairdGate", "has no 'PairdGate'. Did you mean PairedGate"),
        ("nowhere_at_all.Gate", "No module named 'nowhere_at_all'"),
        ("PairedGate", "PairedGate"),
        ("", "gate._target_"),
    ],
)
def test_a_class_path_that_leads_nowhere_is_told(path: str, told: str) -> None:
    message = refused({"_target_": path})
    assert "gate._target_" in message
    assert told in message


@pytest.mark.parametrize("name", ["flywheel.gates.paired", "flywheel.gates.statistics.Z95", "math.pi"])
def test_a_path_that_names_no_class_is_told(name: str) -> None:
    assert name in refused({"_target_": name})


def test_a_path_may_go_into_a_class_as_hydras_do() -> None:
    assert locate("task._target_", "datetime.date.fromisoformat")("2020-01-02").day == 2


def test_the_users_own_import_error_is_shown_whole(module_dir: Path) -> None:
    name = module(module_dir, "mine_missing", "import math\nimport a_library_that_is_not_there\n")
    message = refused({"_target_": f"{name}.Task"}, "task")
    assert f"task._target_ must be a class path that imports; '{name}.Task' does not" in message
    assert "ModuleNotFoundError: No module named 'a_library_that_is_not_there'" in message
    assert 'mine_missing.py", line 2' in message


def test_the_users_own_bug_is_shown_whole(module_dir: Path) -> None:
    name = module(module_dir, "mine_broken", "def start():\n    return 1 / 0\n\nstart()\n")
    message = refused({"_target_": f"{name}.Task"}, "task")
    assert "ZeroDivisionError" in message
    assert 'mine_broken.py", line 2, in start' in message


def test_an_unknown_argument_is_told_with_near_misses() -> None:
    assert f"gate.alfa is no argument of {GATE}. Did you mean alpha?" in refused(
        {"_target_": GATE, "alfa": 1}
    )
    assert "It takes alpha." in refused({"_target_": GATE, "zzz": 1})
    assert "It takes nothing." in refused({"_target_": "flywheel.reviewers.NoReview", "who": "me"}, "review")


def test_a_missing_argument_is_told(module_dir: Path) -> None:
    name = module(module_dir, "mine_task", "class Task:\n    def __init__(self, path, *, size, n=1): ...\n")
    message = refused({"_target_": f"{name}.Task", "n": 3}, "task")
    assert message == f"task lacks path, size, which {name}.Task needs."
    check_target("task", {"_target_": f"{name}.Task", "path": "x", "size": 2})
    check_target("task", {"_target_": f"{name}.Task", "_partial_": True})


def test_any_argument_goes_where_the_class_takes_any(module_dir: Path) -> None:
    name = module(module_dir, "mine_any", "class Task:\n    def __init__(self, **options): ...\n")
    check_target("task", {"_target_": f"{name}.Task", "anything": 1})


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {"_target_": GATE, "alpha": "high"},
            "gate.alpha: Value 'high' of type 'str' could not be converted",
        ),
        ({"_target_": GATE, "alpha": 7}, "gate.alpha must be between 0 and 1; it is 7"),
        ({"_target_": MOONS, "items": 2.5}, "gate.items: Value '2.5' of type 'float' could not be converted"),
    ],
)
def test_types_and_ranges_of_a_dataclass_are_checked(node: dict[str, Any], told: str) -> None:
    assert told in refused(node)


ANNOTATED = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
if TYPE_CHECKING:
    import pyarrow as pa

@dataclass(kw_only=True)
class Later:
    size: int = 1
    table: pa.Table | None = None

@dataclass(kw_only=True)
class Choice:
    kind: Literal["a", "b"] = "a"
"""


@pytest.mark.parametrize("cls", ["Later", "Choice"])
def test_a_dataclass_with_types_beyond_the_schemas_is_taken_or_told(module_dir: Path, cls: str) -> None:
    name = module(module_dir, "mine_typed", ANNOTATED)
    try:
        check_target("task", {"_target_": f"{name}.{cls}"})
    except ConfigError as error:
        assert "task" in str(error)  # noqa: PT017 - both answers are right, a bare NameError is not


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("settings.lr=7", "settings.lr must be between 0 and 1; it is 7"),
        ("settings.steps=many", "settings.steps: Value 'many'"),
        ("+genesis_settings.lr=9", "settings.lr must be between 0 and 1; it is 9"),
        ("+genesis_settings.lrr=0.1", "there is no setting 'lrr'. Did you mean lr?"),
        ("gate.alpha=2", "gate.alpha must be between 0 and 1"),
        ("+curator.treshold=1", "curator.treshold is no argument of .*Did you mean threshold"),
        ("+task.n=1", "task.n is no argument of flywheel.testing.moons.task.Moons"),
        ("~grader._target_", "grader must name a class: give grader._target_=PATH.TO.CLASS"),
    ],
)
def test_each_section_is_checked_before_anything_is_built(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_components(moons(override))


def test_settings_of_a_tuner_pass_the_checks_of_the_configured_ones() -> None:
    config, settings = moons(), Components(moons()).settings()
    check_settings(config, settings)
    with pytest.raises(ConfigError, match=r"settings\.lr must be between 0 and 1"):
        check_settings(config, settings | {"lr": 3.0})
    with pytest.raises(ConfigError, match="there is no setting 'width_'"):
        Components(config).tuned(settings | {"width_": 3})


MODELS = """
import lightning, torch
class Plain(torch.nn.Module): ...
class Untrained(lightning.LightningModule): ...
class Unoptimised(lightning.LightningModule):
    def training_step(self, batch): return batch.sum()
"""


@pytest.mark.parametrize(
    ("cls", "told"),
    [
        ("Plain", "model must be a LightningModule; mine_models.Plain makes a Plain"),
        ("Untrained", "must have training_step"),
        ("Unoptimised", "must have configure_optimizers"),
    ],
)
def test_a_model_that_lightning_cannot_train_is_told(module_dir: Path, cls: str, told: str) -> None:
    module(module_dir, "mine_models", MODELS)
    config = moons(f"model={{_target_:mine_models.{cls}}}", "~model.lr", "~model.width")
    with pytest.raises(ConfigError, match=told):
        check_module(Components(config))


def test_every_target_is_found_however_deep() -> None:
    tree = {"_target_": "a.A", "inner": {"_target_": "b.B"}, "many": [{"x": {"_target_": "c.C"}}, 3]}
    assert targets_in(tree) == {"a.A", "b.B", "c.C"}


def test_a_value_that_the_tuner_changed_reaches_what_names_it() -> None:
    components = Components(moons())
    assert components.model(components.settings() | {"width": 3}).features.out_features == 3
    assert components.build("curator", components.settings() | {"threshold": 0.9}).threshold == 0.9
    assert components.settings()["width"] == 64


def test_genesis_may_have_settings_of_its_own() -> None:
    components = Components(moons("+genesis_settings.steps=5"))
    assert components.settings(genesis=True)["steps"] == 5
    assert components.settings()["steps"] == 40
    assert "_target_" not in components.settings()


def test_the_task_is_built_once() -> None:
    components = Components(moons())
    assert components.task is components.task


CHANGES = {
    "name": "name=other",
    "runs_dir": "runs_dir=/elsewhere",
    "generations": "generations=99",
    "patience": "patience=3",
    "budget": "budget.seconds=5",
    "on_failure": "on_failure=go_on",
    "retention": "retention=promoted",
    "log": "log=quiet",
    "threads": "threads=2",
    "tracker": "+tracker.project=p",
}


def test_operational_keys_do_not_change_the_identity() -> None:
    assert set(CHANGES) == OPERATIONAL
    assert {identity(moons(change)) for change in CHANGES.values()} == {unchanged()}


@pytest.mark.parametrize(
    "change",
    [
        "trainer.accelerator=auto",
        "+trainer.strategy=ddp",
        "trainer.log_every_n_steps=7",
        "trainer.devices=[0]",
    ],
)
def test_where_a_fit_runs_does_not_change_the_identity(change: str) -> None:
    assert identity(moons(change)) == unchanged()


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "chunk_size=100",
        "init=parent",
        "debug=fast_dev_run",
        "settings.lr=0.3",
        "+genesis_settings.steps=3",
        "trainer.max_steps=3",
        "trainer.precision=bf16-mixed",
        "trainer.gradient_clip_val=1.0",
        "curator.threshold=0.7",
        "gate.alpha=0.1",
        "+grader.column=p",
        "task.seed_value=5",
        "model.width=4",
    ],
)
def test_whatever_changes_results_changes_the_identity(change: str) -> None:
    assert identity(moons(change)) != unchanged()


def test_a_base_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for name, content in (("a.ckpt", b"1"), ("b.ckpt", b"1"), ("c.ckpt", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (identity(moons(f"base={tmp_path / name}")) for name in ("a.ckpt", "b.ckpt", "c.ckpt"))
    assert a == b != c
    assert a != unchanged()


def test_the_identity_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "base.ckpt").write_bytes(b"1")
    part = identity_part(moons(f"base={tmp_path / 'base.ckpt'}", f"runs_dir={tmp_path}"))
    assert str(tmp_path) not in str(part)
