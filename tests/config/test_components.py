from __future__ import annotations

import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from flywheel.config.arguments import key_orders
from flywheel.config.components import (
    Components,
    check_components,
    check_settings,
    check_target,
    identity,
    identity_part,
    locate,
    targets_in,
)
from flywheel.config.compose import compose, overrides_of
from flywheel.config.schema import OPERATIONAL
from flywheel.errors import ConfigError
from flywheel.launch.preflight import check_module
from flywheel.storage.ledger import canonical
from flywheel.testing import CONFIG_DIR


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


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("flywheel.gates.paird.Paired", "No module named 'flywheel.gates.paird'"),
        ("flywheel.gates.paired.PairdGate", "has no 'PairdGate'. Did you mean Paired"),
        ("nowhere_at_all.Gate", "No module named 'nowhere_at_all'"),
        ("Paired", "Paired"),
        ("", "gate._target_"),
        ("flywheel.gates.paired", "flywheel.gates.paired"),
        ("math.pi", "math.pi is a float"),
    ],
)
def test_a_path_that_leads_to_no_class_is_told(path: str, reason: str) -> None:
    message = refused({"_target_": path})
    assert "gate._target_" in message
    assert reason in message


def test_a_path_may_go_into_a_class_as_hydras_do() -> None:
    assert locate("task._target_", "datetime.date.fromisoformat")("2020-01-02").day == 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("import math\nimport a_library\n", ["ModuleNotFoundError: No module named 'a_library'", "line 2"]),
        ("def f():\n    return 1 / 0\n\nf()\n", ["ZeroDivisionError", "line 2, in f"]),
    ],
)
def test_what_the_users_own_module_raises_is_shown_whole(
    module_dir: Path, text: str, shown: list[str]
) -> None:
    name = module(module_dir, "mine_broken", text)
    message = refused({"_target_": f"{name}.Task"}, "task")
    assert f"task._target_ must be a class path that imports; '{name}.Task' does not" in message
    assert shown[0] in message
    assert f'mine_broken.py", {shown[1]}' in message


PARTS = """
from __future__ import annotations
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
import numpy as np
if TYPE_CHECKING:
    import pyarrow as pa

@dataclass(kw_only=True)
class Reader:
    path: str = "x"

@dataclass(kw_only=True)
class Odd:
    size: int = 1
    table: pa.Table | None = None
    kind: Literal["a", "b"] = "a"
    scales: Sequence[float] = (1.0, 2.0)
    mixed: list[float] | float = 1.0
    words: set[str] = field(default_factory=set)
    rule: Callable[[str], str] | None = None
    cache: np.ndarray | None = None
    reader: Reader = field(default_factory=Reader)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.size == 7:
            raise ValueError("size must not be 7.")
        if self.size == 8:
            open("/nowhere/data.csv")
        if self.size == 9:
            {}["missing"]
        if self.size == 10:
            b"\\xff".decode()
        if self.size == 11:
            raise SystemExit(0)
        if self.size == 12:
            raise ValueError

class Mode(enum.Enum):
    hard = "difficult"
    soft = 2

@dataclass(kw_only=True)
class Typed:
    mode: Mode = Mode.hard
    also: Mode | None = None
    flag: bool = False
    rate: float | None = 1.0
    path: Path = Path("x")
    tags: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    kind: Literal["a", 1] | None = None
    inner: object = None

class Plain:
    def __init__(self, path: str = "x", flag: bool | None = False, kind: Literal["a"] = "a", n: int = 1): ...

class Later(Plain): ...

@dataclass
class Two:
    size: int
    made: list = field(init=False)
    share: float = 0.5
    def __post_init__(self):
        if self.share > 1:
            raise ValueError("share must be at most 1.")

class Other:
    def __init__(self, first, /, second, *more, third=3): pass
    @classmethod
    def make(cls, first, second=2): return cls(first, second)

class Open:
    def __init__(self, **options): ...

@dataclass(kw_only=True)
class Counted:
    sizes = []
    size: int = 1
    def __post_init__(self):
        self.sizes.append(self.size)
        if self.size > 1:
            raise ValueError("size must be 1.")

class Mapped:
    def __init__(self, parts): self.parts = parts
"""
TAKEN = [
    *[("Odd", more) for more in ({}, {"kind": "b"}, {"scales": [1.0]}, {"mixed": 3.0}, {"mixed": [3.0]})],
    *[("Odd", more) for more in ({"words": ["a"]}, {"table": None}, {"cache": [1]})],
    ("Odd", {"reader": {"_target_": "mine_parts.Reader", "path": "y"}}),
    ("Odd", {"more": {"a": {"_target_": "mine_parts.Reader"}}}),
    ("Typed", {"flag": 1, "rate": 1, "tags": ["1.1"], "path": "/a", "kind": 1, "also": None}),
    ("Plain", {"path": None, "flag": True, "n": "what the class makes of it"}),
    ("Open", {"anything": 1}),
    ("Two", {"_args_": [1]}),
    ("Two", {"_args_": [1, 0.1]}),
    ("Other", {"_args_": [1, 2, 3, 4], "third": 5}),
    ("Other", {"_args_": [1], "second": 2}),
    ("Other", {"_args_": [1], "_partial_": True}),
    ("Other.make", {"_args_": [1]}),
]
REFUSED = [
    ("Odd", {"kind": "c"}, "x.kind must be one of 'a', 'b'; it is 'c'"),
    ("Odd", {"size": "many"}, "x.size: Value 'many' of type 'str' could not be converted"),
    ("Odd", {"reader": {"path": [1]}}, "x.reader.path"),
    ("Odd", {"size": 7}, "x.size must not be 7."),
    ("Odd", {"size": 8}, "x must be buildable .*No such file or directory: '/nowhere/data.csv'"),
    ("Odd", {"size": 9}, "x must be buildable .*KeyError: 'missing'"),
    ("Odd", {"size": 10}, "x must be buildable .*in __post_init__.*UnicodeDecodeError"),
    ("Odd", {"size": 11}, "x must be buildable .*SystemExit: 0"),
    ("Odd", {"size": 12}, "x must be buildable .*in __post_init__.*ValueError"),
    ("Odd", {"zzz": 1}, "x.zzz is no argument of mine_parts.Odd. It takes size, table, kind, scales,"),
    ("Odd", {"sise": 1}, r"x.sise is no argument of mine_parts.Odd. Did you mean size\?"),
    ("Typed", {"flag": "no"}, "x.flag must be true or false; it is the text 'no'"),
    ("Typed", {"rate": "1e-3"}, "x.rate must be a float; '1e-3' was read as a str. Give it without"),
    ("Typed", {"tags": ["a", 1.1]}, r"x.tags\[1\] must be a str; 1.1 was read as a float. Quote it"),
    ("Typed", {"names": {"a": True}}, "x.names.a must be a str; True was read as a bool"),
    ("Typed", {"mode": "harder"}, "x.mode must be one of 'hard', 'soft', 'difficult', 2; it is 'harder'"),
    ("Typed", {"also": 3}, "x.also must be one of"),
    ("Typed", {"kind": "b"}, "x.kind must be one of 'a', 1; it is 'b'"),
    ("Plain", {"path": 1.1}, "x.path must be a text; 1.1 was read as a float"),
    ("Later", {"path": True}, "x.path must be a text; True was read as a bool"),
    ("Plain", {"flag": "off"}, "x.flag must be true or false; it is the text 'off'"),
    ("Plain", {"kind": "b"}, "x.kind must be one of 'a'; it is 'b'"),
    ("Two", {"_args_": ["many"]}, "x.size: Value 'many'"),
    ("Two", {"_args_": [1, 2.0]}, "x.share must be at most 1"),
    ("Two", {"_args_": [1, 0.5, 2]}, "too many positional arguments"),
    ("Two", {"_args_": None}, "x._args_ must be a list; it is None"),
    ("Two", {"_args_": 2}, "x._args_ must be a list; it is 2"),
    ("Two", {"_args_": [1], "size": 2}, "multiple values for argument 'size'"),
    ("Other", {"_args_": [1]}, "^x lacks second, which mine_parts.Other needs.$"),
    ("Other", {}, "^x lacks first, second, which mine_parts.Other needs.$"),
    ("Other", {"first": 1, "second": 2}, "positional only"),
    ("Other.make", {"_args_": []}, "x lacks first"),
]


@pytest.fixture
def parts(module_dir: Path) -> str:
    return module(module_dir, "mine_parts", PARTS)


@pytest.mark.parametrize(("cls", "arguments"), TAKEN, ids=str)
def test_arguments_that_fit_and_types_that_cannot_be_checked_are_left_to_the_class(
    parts: str, cls: str, arguments: dict[str, Any]
) -> None:
    check_target("x", {"_target_": f"{parts}.{cls}", **arguments})


@pytest.mark.parametrize(("cls", "arguments", "message"), REFUSED, ids=str)
def test_arguments_that_do_not_fit_are_refused_and_what_a_class_raises_is_explained(
    parts: str, cls: str, arguments: dict[str, Any], message: str
) -> None:
    assert re.search(message, refused({"_target_": f"{parts}.{cls}", **arguments}, "x"), re.DOTALL)


def test_an_enum_is_given_as_its_member_however_deep(parts: str) -> None:
    inner = {"_target_": f"{parts}.Typed", "also": "difficult"}
    node = {"recipe": "moons", "+grader.mode": "soft", "+grader.also": 2, "+grader.inner": [inner]}
    config = compose(overrides_of({**node, "grader._target_": f"{parts}.Typed"}), CONFIG_DIR)
    check_components(config)
    built, modes = Components(config).build("grader", {}), sys.modules[parts].Mode
    assert (built.mode, built.also, built.inner[0].also) == (modes.soft, modes.soft, modes.hard)


@pytest.mark.parametrize("value", ["no", "'false'", "off"])
def test_a_text_for_a_bool_of_the_trainer_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.inference_mode must be true or false; it is the text"):
        check_components(moons(f"+trainer.inference_mode={value}"))


def test_a_task_is_built_once_and_what_it_raises_is_explained(parts: str) -> None:
    task = f"++task={{_target_:{parts}.Counted,size:"
    config = moons("~task", task + "1}")
    check_components(config)
    components = Components(config)
    assert components.task is components.task
    assert sys.modules[parts].Counted.sizes == [1]
    with pytest.raises(ConfigError, match=r"task\.size must be 1\."):
        _ = Components(moons("~task", task + "2}")).task


MAPPINGS = [
    {"stem": 1, "body": {"b": 1, "a": 2}, "head": [{"z": 1, "y": 2}]},
    {0: 1.0, 10: 2.0, 9: 3.0},
    {"a": {2: "x"}},
    {True: "on", False: "off"},
    {1.5: "a", 0.5: "b", -1: "c"},
    {10: {9: {8: 1, 2: [{2: 1, 1: 2}]}}},
    {"true": 1, "null": 2, "A": 3, "a": 4},
    {"a": {}, "_": []},
]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=str)
def test_mappings_among_arguments_are_built_as_written_also_from_a_ledger(
    parts: str, mapping: dict[Any, Any]
) -> None:
    grader = {"grader._target_": f"{parts}.Mapped", "+grader.parts": mapping}
    config = compose(overrides_of({"recipe": "moons", **grader}), CONFIG_DIR)
    recorded = json.loads(canonical(identity_part(config)))
    for source in (config, OmegaConf.create(recorded)):
        components = Components(source)
        assert repr(components.build("grader", components.settings()).parts) == repr(mapping)


def test_the_order_of_a_mapping_is_part_of_the_identity() -> None:
    one, other = (moons(f"+task.parts={{{text}}}") for text in ("a:1,b:2", "b:2,a:1"))
    assert identity(one) != identity(other)


@pytest.mark.parametrize(
    "keys", [(1, "1"), (1.5, "1.5"), (True, "true"), (float("nan"),), (float("inf"), 1), (b"a", "b"), (None,)]
)
def test_keys_that_json_cannot_keep_or_tell_apart_are_refused(keys: tuple[Any, ...]) -> None:
    node = {"_target_": "x.Y", "parts": dict.fromkeys(keys, 0)}
    with pytest.raises(ConfigError, match=rf"task\.parts has {', '.join(map(repr, keys))}\. Give a list"):
        list(key_orders({"task": node}))


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("settings.lr=7", "settings.lr must be between 0 and 1; it is 7"),
        ("settings.steps=many", "^settings.steps: Value 'many'"),
        ("+settings.word=x", "^settings.word is no argument of"),
        ("+genesis_settings.lr=9", "settings.lr must be between 0 and 1; it is 9"),
        ("+genesis_settings.lrr=0.1", "there is no setting 'lrr'. Did you mean lr?"),
        ("+refit_settings.lr=9", "settings.lr must be between 0 and 1; it is 9"),
        ("+refit_settings.lrr=0.1", "refit_settings: there is no setting 'lrr'. Did you mean lr?"),
        ("error_budget.alpha=2", "error_budget.alpha must be between 0 and 1"),
        ("+curator.treshold=1", "curator.treshold is no argument of .*Did you mean threshold"),
        ("+task.n=1", "task.n is no argument of flywheel.testing.moons.task.Moons"),
        ("~grader._target_", "grader must name a class: give grader._target_=PATH.TO.CLASS"),
    ],
)
def test_each_section_is_checked_before_anything_is_built(override: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
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
    ("cls", "reason"),
    [
        ("Plain", "model must be a LightningModule; it is built as a mine_models.Plain"),
        ("Untrained", "must have training_step"),
        ("Unoptimised", "must have configure_optimizers"),
    ],
)
def test_a_model_that_lightning_cannot_train_is_told(module_dir: Path, cls: str, reason: str) -> None:
    module(module_dir, "mine_models", MODELS)
    config = moons(f"model={{_target_:mine_models.{cls}}}", "~model.lr", "~model.width")
    with pytest.raises(ConfigError, match=reason):
        check_module(Components(config))


def test_every_target_is_found_however_deep() -> None:
    tree = {"_target_": "a.A", "inner": {"_target_": "b.B"}, "many": [{"x": {"_target_": "c.C"}}, 3]}
    assert targets_in(tree) == {"a.A", "b.B", "c.C"}


def test_a_value_that_the_tuner_changed_reaches_what_names_it() -> None:
    components = Components(moons())
    assert components.model(components.settings() | {"width": 3}).features.out_features == 3
    assert components.build("curator", components.settings() | {"threshold": 0.9}).threshold == 0.9
    assert components.settings()["width"] == 64


def test_a_section_has_the_settings_of_each_call_equal_ones_of_other_types_too() -> None:
    node = {"settings": {"t": 0}, "grader": {"_target_": "x.Grader", "threshold": "${settings.t}"}}
    parts = Components(OmegaConf.create(node))
    for value in (1, 1.0, True, 1, 0.5):
        section = parts.section("grader", {"t": value})
        assert repr(section["threshold"]) == repr(value)
        section["threshold"] = "changed by whoever asked"
    assert parts.config.settings.t == 0


def test_genesis_may_have_settings_of_its_own() -> None:
    components = Components(moons("+genesis_settings.steps=5"))
    assert components.settings(genesis=True)["steps"] == 5
    assert components.settings()["steps"] == 40
    assert "_target_" not in components.settings()


OPERATIONAL_CHANGES = {
    "name": "name=other",
    "runs_dir": "runs_dir=/elsewhere",
    "generations": "generations=99",
    "patience": "patience=3",
    "budget": "budget.seconds=5",
    "on_failure": "on_failure=go_on",
    "max_failures": "max_failures=0.1",
    "retention": "retention.promoted=true",
    "log": "log=quiet",
    "report": "report=none",
    "threads": "threads=2",
    "tracker": "tracker=wandb",
    "refit": "refit=true",
    "refit_settings": "+refit_settings.steps=3",
    "seal": "seal=reopen",
}


WHERE_A_FIT_RUNS = ["trainer.accelerator=auto", "+trainer.strategy=ddp", "trainer.log_every_n_steps=7"]


def test_operational_keys_and_where_a_fit_runs_do_not_change_the_identity() -> None:
    assert set(OPERATIONAL_CHANGES) == OPERATIONAL
    changes = [*OPERATIONAL_CHANGES.values(), *WHERE_A_FIT_RUNS, "trainer.devices=[0]"]
    assert {identity(moons(change)) for change in changes} == {unchanged()}


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
        "error_budget.alpha=0.1",
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
    configs = [moons(f"base={tmp_path / name}.ckpt", f"runs_dir={tmp_path}") for name in "abc"]
    a, b, c = map(identity, configs)
    assert a == b != c
    assert a != unchanged()
    assert str(tmp_path) not in str(identity_part(configs[0])), "no path of this machine"
