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

CONFIDENT = "flywheel.curators.Confident"
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


def check(node: dict[str, Any], told: str) -> None:
    """Check that a node is refused with these words; taken, if there are none."""
    if told:
        assert told in refused(node, "x")
    else:
        check_target("x", node)


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
        ("flywheel.gates.paird.Paired", "No module named 'flywheel.gates.paird'"),
        ("flywheel.gates.paired.PairdGate", "has no 'PairdGate'. Did you mean Paired"),
        ("nowhere_at_all.Gate", "No module named 'nowhere_at_all'"),
        ("Paired", "Paired"),
        ("", "gate._target_"),
    ],
)
def test_a_class_path_that_leads_nowhere_is_told(path: str, told: str) -> None:
    message = refused({"_target_": path})
    assert "gate._target_" in message
    assert told in message


@pytest.mark.parametrize("name", ["flywheel.gates.paired", "flywheel.metrics.intervals.TAIL", "math.pi"])
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
    known = {"_target_": f"{CONFIDENT}"}
    assert f"gate.treshold is no argument of {CONFIDENT}. Did you mean threshold?" in refused(
        {**known, "treshold": 1}
    )
    assert "It takes score, threshold, by, fractions." in refused({**known, "zzz": 1})
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
            {"_target_": CONFIDENT, "threshold": "high"},
            "gate.threshold: Value 'high' of type 'str' could not be converted",
        ),
        (
            {"_target_": CONFIDENT, "fractions": [7]},
            "gate.fractions must be above 0 and at most 1; they are [7",
        ),
        ({"_target_": MOONS, "items": 2.5}, "gate.items: Value '2.5' of type 'float' could not be converted"),
    ],
)
def test_types_and_ranges_of_a_dataclass_are_checked(node: dict[str, Any], told: str) -> None:
    assert told in refused(node)


ANNOTATED = """
from __future__ import annotations
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
"""


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kind": "b"},
        {"scales": [1.0]},
        {"mixed": 3.0},
        {"mixed": [3.0]},
        {"words": ["a"]},
        {"table": None},
        {"cache": [1]},
        {"reader": {"_target_": "mine_typed.Reader", "path": "y"}},
        {"more": {"a": {"_target_": "mine_typed.Reader"}}},
    ],
    ids=str,
)
def test_types_that_cannot_be_checked_are_left_to_the_class(module_dir: Path, arguments: Any) -> None:
    name = module(module_dir, "mine_typed", ANNOTATED)
    check_target("grader", {"_target_": f"{name}.Odd", **arguments})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"kind": "c"}, "grader.kind must be one of 'a', 'b'; it is 'c'"),
        ({"size": "many"}, "grader.size: Value 'many' of type 'str' could not be converted"),
        ({"reader": {"path": [1]}}, "grader.reader.path"),
        ({"size": 7}, "grader.size must not be 7."),
        ({"size": 8}, "grader must be buildable .*No such file or directory: '/nowhere/data.csv'"),
        ({"size": 9}, "grader must be buildable .*KeyError: 'missing'"),
        ({"size": 10}, "grader must be buildable .*in __post_init__.*UnicodeDecodeError"),
        ({"size": 11}, "grader must be buildable .*SystemExit: 0"),
        ({"size": 12}, "grader must be buildable .*in __post_init__.*ValueError"),
    ],
    ids=str,
)
def test_types_that_can_be_checked_are_and_what_a_class_raises_is_explained(
    module_dir: Path, arguments: Any, told: str
) -> None:
    name = module(module_dir, "mine_typed", ANNOTATED)
    assert re.search(told, refused({"_target_": f"{name}.Odd", **arguments}, "grader"), re.DOTALL)


MISREAD = """
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
"""


@pytest.mark.parametrize(
    ("cls", "arguments", "told"),
    [
        ("Typed", {"flag": "no"}, "x.flag must be true or false; it is the text 'no'"),
        ("Typed", {"rate": "1e-3"}, "x.rate must be a float; '1e-3' was read as a str. Give it without"),
        ("Typed", {"tags": ["a", 1.1]}, "x.tags[1] must be a str; 1.1 was read as a float. Quote it"),
        ("Typed", {"names": {"a": True}}, "x.names.a must be a str; True was read as a bool"),
        ("Typed", {"mode": "harder"}, "x.mode must be one of 'hard', 'soft', 'difficult', 2; it is 'harder'"),
        ("Typed", {"also": 3}, "x.also must be one of"),
        ("Typed", {"kind": "b"}, "x.kind must be one of 'a', 1; it is 'b'"),
        ("Plain", {"path": 1.1}, "x.path must be a text; 1.1 was read as a float"),
        ("Later", {"path": True}, "x.path must be a text; True was read as a bool"),
        ("Plain", {"flag": "off"}, "x.flag must be true or false; it is the text 'off'"),
        ("Plain", {"kind": "b"}, "x.kind must be one of 'a'; it is 'b'"),
        ("Typed", {"flag": 1, "rate": 1, "tags": ["1.1"], "path": "/a", "kind": 1, "also": None}, ""),
        ("Plain", {"path": None, "flag": True, "n": "what the class makes of it"}, ""),
    ],
    ids=str,
)
def test_a_value_that_was_read_as_another_kind_is_refused(
    module_dir: Path, cls: str, arguments: dict[str, Any], told: str
) -> None:
    node = {"_target_": f"{module(module_dir, 'mine_misread', MISREAD)}.{cls}", **arguments}
    check(node, told)


def test_an_enum_is_given_as_its_member_however_deep(module_dir: Path) -> None:
    name = module(module_dir, "mine_misread", MISREAD)
    inner = {"_target_": f"{name}.Typed", "also": "difficult"}
    node = {"recipe": "moons", "+grader.mode": "soft", "+grader.also": 2, "+grader.inner": [inner]}
    config = compose(overrides_of({**node, "grader._target_": f"{name}.Typed"}), CONFIG_DIR)
    check_components(config)
    built, modes = Components(config).build("grader", {}), sys.modules[name].Mode
    assert (built.mode, built.also, built.inner[0].also) == (modes.soft, modes.soft, modes.hard)


@pytest.mark.parametrize("value", ["no", "'false'", "off"])
def test_a_text_for_a_bool_of_the_trainer_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.inference_mode must be true or false; it is the text"):
        check_components(moons(f"+trainer.inference_mode={value}"))


def test_a_task_is_built_once_and_what_it_raises_is_explained(module_dir: Path) -> None:
    name = module(
        module_dir,
        "mine_counted",
        "from dataclasses import dataclass\nbuilt = []\n\n@dataclass(kw_only=True)\nclass Counted:\n"
        "    size: int = 1\n    def __post_init__(self):\n        built.append(self.size)\n"
        "        if self.size > 1:\n            raise ValueError('size must be 1.')\n",
    )
    task = f"++task={{_target_:{name}.Counted,size:"
    config = moons("~task", task + "1}")
    check_components(config)
    components = Components(config)
    assert components.task is components.task
    assert sys.modules[name].built == [1]
    with pytest.raises(ConfigError, match=r"task\.size must be 1\."):
        _ = Components(moons("~task", task + "2}")).task


POSITIONAL = """
from dataclasses import dataclass, field

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
"""


@pytest.mark.parametrize(
    ("name", "node", "told"),
    [
        ("Two", {"_args_": [1]}, ""),
        ("Two", {"_args_": [1, 0.1]}, ""),
        ("Two", {"_args_": ["many"]}, "x.size: Value 'many'"),
        ("Two", {"_args_": [1, 2.0]}, "x.share must be at most 1"),
        ("Two", {"_args_": [1, 0.5, 2]}, "too many positional arguments"),
        ("Two", {"_args_": None}, "x._args_ must be a list; it is None"),
        ("Two", {"_args_": 2}, "x._args_ must be a list; it is 2"),
        ("Two", {"_args_": [1], "size": 2}, "multiple values for argument 'size'"),
        ("Other", {"_args_": [1, 2, 3, 4], "third": 5}, ""),
        ("Other", {"_args_": [1], "second": 2}, ""),
        ("Other", {"_args_": [1]}, "x lacks second"),
        ("Other", {"first": 1, "second": 2}, "positional only"),
        ("Other", {"_args_": [1], "_partial_": True}, ""),
        ("Other.make", {"_args_": [1]}, ""),
        ("Other.make", {"_args_": []}, "x lacks first"),
    ],
)
def test_positional_arguments_are_checked_as_named_ones_are(
    module_dir: Path, name: str, node: dict[str, Any], told: str
) -> None:
    node = {"_target_": f"{module(module_dir, 'mine_positional', POSITIONAL)}.{name}", **node}
    check(node, told)


ORDERED = {"stem": 1, "body": {"b": 1, "a": 2}, "head": [{"z": 1, "y": 2}]}


MAPPINGS = [
    ORDERED,
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
    module_dir: Path, mapping: dict[Any, Any]
) -> None:
    name = module(
        module_dir, "mine_mapped", "class Mapped:\n    def __init__(self, parts): self.parts = parts\n"
    )
    config = compose(
        overrides_of({"recipe": "moons", "grader._target_": f"{name}.Mapped", "+grader.parts": mapping}),
        CONFIG_DIR,
    )
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
    ("override", "told"),
    [
        ("settings.lr=7", "settings.lr must be between 0 and 1; it is 7"),
        ("settings.steps=many", "^settings.steps: Value 'many'"),
        ("+settings.word=x", "^settings.word is no argument of"),
        ("+genesis_settings.lr=9", "settings.lr must be between 0 and 1; it is 9"),
        ("+genesis_settings.lrr=0.1", "there is no setting 'lrr'. Did you mean lr?"),
        ("error_budget.alpha=2", "error_budget.alpha must be between 0 and 1"),
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
        ("Plain", "model must be a LightningModule; it is built as a mine_models.Plain"),
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


CHANGES = {
    "name": "name=other",
    "runs_dir": "runs_dir=/elsewhere",
    "generations": "generations=99",
    "patience": "patience=3",
    "budget": "budget.seconds=5",
    "on_failure": "on_failure=go_on",
    "retention": "retention.promoted=true",
    "log": "log=quiet",
    "threads": "threads=2",
    "tracker": "tracker=wandb",
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
    a, b, c = (identity(moons(f"base={tmp_path / name}")) for name in ("a.ckpt", "b.ckpt", "c.ckpt"))
    assert a == b != c
    assert a != unchanged()


def test_the_identity_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "base.ckpt").write_bytes(b"1")
    part = identity_part(moons(f"base={tmp_path / 'base.ckpt'}", f"runs_dir={tmp_path}"))
    assert str(tmp_path) not in str(part)
