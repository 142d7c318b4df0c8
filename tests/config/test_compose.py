from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ReadonlyConfigError

from flywheel.config.compose import compose, overrides_of, quoted
from flywheel.config.identity import ABSENT, differences, leaf_text
from flywheel.config.search_path import config_dirs, known_targets, recipes
from flywheel.errors import ConfigError
from flywheel.storage.ledger import canonical
from flywheel.testing import CONFIG_DIR

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "conf", Path(CONFIG_DIR), *sorted((ROOT / "recipes").rglob("conf"))]
FILES = [(folder, path) for folder in FOLDERS for path in sorted(folder.rglob("*.yaml"))]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | TEXT


def moons(*overrides: str) -> DictConfig:
    return compose(["recipe=moons", *overrides], CONFIG_DIR)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        compose(list(overrides), CONFIG_DIR)
    return str(refused.value)


def overrides_for(folder: Path, path: Path) -> list[str]:
    """What brings a file of the search path into the configuration."""
    *groups, name = path.relative_to(folder).with_suffix("").parts
    if not groups:
        return ["recipe=moons"]
    if groups[0] == "overlay":
        return [f"debug={groups[1]}", f"recipe={name}"]
    return [f"{'/'.join(groups)}={name}", *([] if groups == ["recipe"] else ["recipe=moons"])]


@pytest.mark.parametrize(("folder", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES])
def test_every_yaml_file_composes(folder: Path, path: Path) -> None:
    config_dir = CONFIG_DIR if folder == ROOT / "conf" else str(folder)
    overrides = overrides_for(folder, path)
    composed = compose(overrides, config_dir)
    assert f"recipe={composed.recipe}" in overrides
    assert "hydra" not in composed


def test_every_recipe_has_a_summary() -> None:
    assert all(recipe.summary for recipe in recipes(CONFIG_DIR))
    assert "moons" in {recipe.name for recipe in recipes(CONFIG_DIR)}
    assert "moons" not in {recipe.name for recipe in recipes()}


def test_a_recipe_is_found_where_config_dir_says(tmp_path: Path) -> None:
    odd_recipe(tmp_path, "suns", (Path(CONFIG_DIR) / "recipe" / "moons.yaml").read_bytes())
    assert compose(["recipe=suns"], str(tmp_path)).recipe == "suns"
    suns = next(recipe for recipe in recipes(str(tmp_path)) if recipe.name == "suns")
    assert (suns.source, suns.path) == ("--config-dir", tmp_path / "recipe" / "suns.yaml")
    with pytest.raises(ConfigError, match=r"--config-dir must be a folder; .*nowhere"):
        config_dirs(str(tmp_path / "nowhere"))


def test_known_targets_are_those_of_the_search_path() -> None:
    assert "flywheel.testing.moons.model.Classifier" in known_targets(CONFIG_DIR)
    assert "flywheel.testing.moons.model.Classifier" not in known_targets()
    assert "flywheel.gates.Paired" in known_targets()


def test_values_have_their_types_and_references_are_filled_in() -> None:
    config = moons("settings.lr=0.5", "generations=7", "init=parent")
    assert (config.generations, config.init.name, config.model.lr) == (7, "parent", 0.5)
    with pytest.raises(ReadonlyConfigError):
        config.seed = 3


def test_overlays_shrink_a_run() -> None:
    assert moons("debug=tiny").generations == 3
    assert moons("debug=fast_dev_run").trainer.max_steps == 2
    assert moons("debug=tiny", "generations=1").generations == 1


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("generatons=2", "generations"),
        ("settings.lrr=2", "settings.lr"),
        ("trainer.max_stps=2", "trainer.max_steps"),
        ("budget.secnds=2", "budget.seconds"),
        ("error_budget.alfa=0.1", "error_budget.alpha"),
    ],
)
def test_an_unknown_key_is_told_with_near_misses_each_once(override: str, near: str) -> None:
    message = refusal("recipe=moons", override)
    assert f"There is no key {override.partition('=')[0]!r}. Did you mean {near}" in message
    listed = message.partition("Did you mean ")[2].partition("?")[0].split(" or ")
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("recipe=moon", "There is no recipe 'moon'. Did you mean moons? Known: "),
        ("recipe=moon", "A recipe of your own needs --config-dir"),
        ("settings.zzzzzz=1", "settings.width"),
        ("genesis_settings={lr:0.1}", "+genesis_settings"),
        ("curator.score=margin", "There is no key 'curator.score'. "),
        ("curator.score=margin", "To add one that a class takes, write +curator.score=...; "),
        ("generations=abc", "'abc' of type 'str' could not be converted to Integer"),
        ("generations=2.5", "could not be converted to Integer"),
        ("seed=null", "seed"),
        ("init=parnt", "expected one of [parent, base, fresh]"),
        ("log=loud", "expected one of [auto, live, plain, json, quiet]"),
        ("budget=3", "budget"),
        ("patience=0", "patience must be 1 or more, or null; it is 0"),
        ("budget.seconds=0", "budget.seconds must be above 0"),
        ("base=/nowhere", "base must be an existing .safetensors or .ckpt file; it is '/nowhere'"),
        ("settings.lr=${settings.nope}", "settings.nope"),
        ("settings.lr=???", "settings.lr"),
        ("gate=pared", "paired"),
        ("debug=tinny", "tiny"),
        ("debug=1", "There is no debug '1'. Known: fast_dev_run, none, tiny"),
        ("gate=1", "Config group override must be a string"),
        ("generations", "An override is KEY=VALUE; 'generations' has no ="),
        ("runs_dir=${nowhere}", "runs_dir: Interpolation key 'nowhere' not found"),
        ("curator.score={a:1", "{a:1"),
    ],
)
def test_what_cannot_be_used_is_told(override: str, reason: str) -> None:
    message = refusal("recipe=moons", override)
    assert reason in message
    assert "object_type=" not in message
    assert "no key 'genesis_settings'" not in message  # there is
    assert "give recipe=NAME, one of" in refusal()


def as_data(value: Any) -> Any:
    """Quoted strings of Hydra's parser as strings, however deep."""
    if isinstance(value, list):
        return [as_data(item) for item in value]
    if isinstance(value, dict):
        return {as_data(key): as_data(item) for key, item in value.items()}
    return getattr(value, "text", value)


@settings(max_examples=80)
@given(SCALARS | st.lists(SCALARS, max_size=3))
@example(r"a\d")
@example("a\\")
@example("it's \\' quoted")
def test_every_value_from_python_is_what_hydra_reads(value: Any) -> None:
    (override,) = overrides_of({"key": value})
    assert as_data(OverridesParser.create().parse_override(override).value()) == value


def test_mappings_may_be_nested_or_dotted() -> None:
    expected = ["settings.lr=0.1", "settings.steps=3", "seed=1"]
    assert overrides_of({"settings": {"lr": 0.1, "steps": 3}, "seed": 1}) == expected
    assert overrides_of({"settings.lr": 0.1, "settings.steps": 3, "seed": 1}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1e-5, 1e-5),
        (np.float64(0.1), 0.1),
        (np.int64(5), 5),
        (np.bool_(True), True),
        (Path("/data/x y"), "/data/x y"),
        ("null", "null"),
        ("1e5", "1e5"),
        (r"say \"it's\": [1], {a=b}\d" + "\\", r"say \"it's\": [1], {a=b}\d" + "\\"),
        ("${settings.lr}", 0.01),
        ([1, "a,b", None], [1, "a,b", None]),
        ((1, 2), [1, 2]),
        ({}, {}),
        ([{"_target_": "a.B", "n": 1}], [{"_target_": "a.B", "n": 1}]),
    ],
    ids=str,
)
def test_values_of_python_and_numpy_keep_their_type(value: Any, expected: Any) -> None:
    config = moons(*(f"+settings.{o}" for o in overrides_of({"extra": value})))
    extra = OmegaConf.to_container(config.settings, resolve=True)["extra"]
    assert extra == expected
    assert type(extra) is type(expected)


def test_a_run_may_be_described_in_python() -> None:
    description = {"recipe": "moons", "name": None, "budget": {"seconds": 1.5}, "log": "quiet", "seed": 3}
    config = compose(overrides_of(description), CONFIG_DIR)
    assert (config.name, config.budget.seconds, config.log.name, config.seed) == (None, 1.5, "quiet", 3)


KEYS = st.sampled_from(["a", "b", "a.b", "", "1", '"a"'])
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.sampled_from([None, True, False, 0, 1, 1.0, 0.0, -0.0, "1", "", [], [1], [1.0], [True]]),
        lambda inner: st.dictionaries(KEYS, inner, max_size=2) | st.lists(inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@given(TREES, TREES)
def test_configurations_differ_exactly_if_their_json_does(old: Any, new: Any) -> None:
    pairs = differences(old, new)
    assert (pairs == {}) == (canonical(old) == canonical(new))
    assert all(leaf_text(before) != leaf_text(after) for before, after in pairs.values())
    assert {key: pair[::-1] for key, pair in pairs.items()} == differences(new, old)


def test_differences_name_dotted_keys_and_what_is_absent() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 1, "a.b": 5}, {"a": {"b": 1.0, "c": 2}, "d": {"e": None}}
    assert differences(old, new) == {'"a.b"': [5, ABSENT], "a.b": [1, 1.0], "d": [1, {"e": None}]}


WORDS = ["2024_01_01", "1.1", "1.10", "12e45678", "0x10", "true", "007", "inf", "nan", "None_", "1_000"]


@pytest.mark.parametrize("name", WORDS)
def test_a_name_is_the_text_that_was_given(name: str) -> None:
    for given_ in (f"name={name}", f"name='{name}'"):
        assert moons(given_).name == name


PATHS = [
    "epoch=3-step=10",
    "a (1) #2",
    "a,b c d",
    "it's[x]{y}",
    "~x:y",
    "a\\b",
    "1.10",
    'p"x"',
    "päth",
    "it(1)",
]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_the_text_that_was_given(name: str, tmp_path: Path) -> None:
    base = tmp_path / f"{name}.ckpt"
    base.touch()
    config = moons(f"runs_dir={tmp_path}/{name}", f"base={base}", "genesis=load")
    assert (config.runs_dir, config.base) == (f"{tmp_path}/{name}", str(base))


def test_a_path_may_begin_like_what_hydra_means_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("model(1).ckpt", "glob(a).ckpt", "'tis.ckpt", "$x.ckpt", "null.ckpt", "[a].ckpt"):
        Path(name).touch()
        assert moons(f"base={name}").base == name
        assert compose(overrides_of({"recipe": "moons", "base": name}), CONFIG_DIR).base == name
    home = moons("base=~/$x.ckpt", "runs_dir=~/runs")
    assert (home.base, home.runs_dir) == (f"{tmp_path}/$x.ckpt", f"{tmp_path}/runs")


@pytest.mark.parametrize("name", ["2048", "1.10", "true"])
def test_a_recipe_may_have_a_name_that_looks_like_a_number(name: str, tmp_path: Path) -> None:
    folder = odd_recipe(tmp_path, name, GOOD.encode())
    assert compose([f"recipe={name}"], folder).recipe == name


def test_an_overlay_that_is_not_there_is_told_in_python_too(tmp_path: Path) -> None:
    folder = odd_recipe(tmp_path, "mine", GOOD.encode())
    with pytest.raises(ConfigError, match="debug=tiny needs an overlay"):
        compose(overrides_of({"recipe": "mine", "debug": "tiny"}), folder)


def test_what_hydra_means_by_a_text_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "there")
    assert moons("name=null").name is None
    assert moons("runs_dir=${oc.env:MINE}/runs").runs_dir == "there/runs"
    assert quoted(["name=1.10,1.20", "seed=1,2"], sweep=True) == ["name='1.10','1.20'", "seed=1,2"]
    assert quoted(["name=choice(a,b)"], sweep=True) == ["name=choice(a,b)"]


def test_other_texts_that_cannot_be_read_are_told_how_to_be_quoted() -> None:
    reason = refusal("recipe=moons", "+task.path=epoch=3.ckpt")
    assert "\"+task.path='epoch=3.ckpt'\"" in reason
    assert moons("+task.path='epoch=3.ckpt'").task.path == "epoch=3.ckpt"


def odd_recipe(folder: Path, name: str, data: bytes) -> str:
    (folder / "recipe").mkdir(exist_ok=True)
    (folder / "recipe" / f"{name}.yaml").write_bytes(data)
    return str(folder)


GOOD = "# @package _global_\n# Good\ndefaults:\n  - mnist\n  - _self_\n"
READ = {
    "crlf": GOOD.replace("\n", "\r\n").encode(),
    "emoji": (GOOD + "# \U0001f600\n").encode(),
    "anchor": (GOOD + "seed: &a 1\ngenerations: *a\n").encode(),
}
MARKED = "byte order mark"
ODD = {
    "latin": (GOOD.replace("Good", "Prüfung").encode("latin-1"), r"odd\.yaml must be UTF-8; byte 24 is 0xfc"),
    MARKED: (b"\xef\xbb\xbf" + GOOD.encode(), r"odd\.yaml begins with a byte order mark"),
    "utf16": (GOOD.encode("utf-16"), r"odd\.yaml must be UTF-8; byte 0 is 0xff"),
    "utf16le": (GOOD.encode("utf-16-le"), r"(?s)#x0000.*odd\.yaml"),
    "open bracket": (b"# @package _global_\nseed: [1\n", r"(?s)odd\.yaml.*line 3"),
    "tab": (GOOD.encode() + b"settings:\n\tlr: 1\n", r"(?s)'\\t'.*odd\.yaml.*line 7"),
    "key twice": (GOOD.encode() + b"seed: 1\nseed: 2\n", r"(?s)duplicate key seed.*odd\.yaml.*line 7"),
    "two documents": (GOOD.encode() + b"---\nseed: 1\n", r"(?s)single document.*odd\.yaml"),
    "empty": (b"", r"odd\.yaml must begin with the line '# @package _global_'"),
    "only a comment": (b"# Odd\n", r"odd\.yaml must begin with the line '# @package _global_'"),
    "no package": (b"seed: 1\n", r"odd\.yaml must begin with the line '# @package _global_'"),
    "a list": (b"- a\n- b\n", r"odd\.yaml must begin with the line '# @package _global_'"),
    "list for a mapping": (GOOD.encode() + b"settings: [1]\n", r"^In 'recipe/odd'"),
}


@pytest.mark.parametrize("kind", [*READ, *ODD])
def test_odd_files_are_read_or_named_with_what_is_wrong_where_they_are_used(
    kind: str, tmp_path: Path
) -> None:
    data, reason = ODD.get(kind, (READ.get(kind), ""))
    odd_recipe(tmp_path, "good", GOOD.encode())
    folder = odd_recipe(tmp_path, "odd", data)
    summaries = {info.name: info.summary for info in recipes(folder)}
    assert "odd" in summaries
    assert compose(["recipe=good"], folder).recipe == "good"
    if kind in (*READ, MARKED):
        assert summaries["odd"] == "Good"
    if kind in READ:
        assert compose(["recipe=odd"], folder).recipe == "odd"
    else:
        with pytest.raises(ConfigError, match=reason):
            compose(["recipe=odd"], folder)


@pytest.mark.parametrize("kind", ["folder", "dangling link", "link to itself", "pipe"])
def test_what_is_no_file_is_no_recipe(kind: str, tmp_path: Path) -> None:
    folder = odd_recipe(tmp_path, "good", GOOD.encode())
    odd = tmp_path / "recipe" / "odd.yaml"
    if kind == "folder":
        odd.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("odd.yaml" if kind == "link to itself" else "nowhere")
    assert compose(["recipe=good"], folder).recipe == "good"
    for words, reason in (
        (["recipe=odd"], "no recipe 'odd'"),
        (["recipe=good", "sed=1"], "Did you mean seed"),
    ):
        with pytest.raises(ConfigError, match=reason):
            compose(words, folder)
    assert "flywheel.recipes.mnist.task.Mnist" in known_targets(folder)


@pytest.fixture
def application() -> Iterator[None]:
    """An application of Hydra's own that calls us, with a schema of its own."""
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node={"theirs": 1})
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.2"):
        yield


@pytest.mark.parametrize("words", [["recipe=moons"], ["recipe=nothing"], ["recipe=moons", "seed=x"]])
def test_an_application_of_hydras_own_goes_on_as_it_was(application: None, words: list[str]) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    before, base = GlobalHydra.instance().hydra, hydra.version.getbase()
    with contextlib.suppress(ConfigError):
        compose(words, CONFIG_DIR)
    assert (GlobalHydra.instance().hydra, hydra.version.getbase()) == (before, base)
    assert hydra.compose("schema") == {"theirs": 1}


def test_without_an_application_nothing_stays_behind() -> None:
    from hydra.core.global_hydra import GlobalHydra

    moons()
    assert not GlobalHydra.instance().is_initialized()


def test_an_application_gets_its_hydra_back_where_ours_cannot_begin(
    application: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    monkeypatch.setattr("hydra.initialize_config_dir", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        moons()
    assert GlobalHydra.instance().hydra is before
