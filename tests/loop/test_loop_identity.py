"""What changes a run's results is its identity and is refused; the rest may change on resume."""

from __future__ import annotations

import json

import pytest

from flywheel.errors import ExitCode, IdentityError
from tests.support.harness import events, kinds


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("settings.lr", 0.05),
        ("task.items", 40),
        ("error_budget.alpha", 0.3),
        ("curator.kept", "always"),
        ("init", "parent"),
        ("genesis", "fresh"),
        ("chunk_size", 64),
        ("trainer.gradient_clip_val", 1.0),
    ],
)
def test_another_identity_is_refused_with_the_key(after_genesis, key, value):
    before = len(events(after_genesis(generations=0).path))
    change = {f"+{key}" if key in ("task.items", "curator.kept") else key: value}
    with pytest.raises(IdentityError, match=rf"(?m)^ +{key}: .* there, {json.dumps(value)} now$"):
        after_genesis(generations=0, **change)
    assert len(events(after_genesis(generations=0).path)) == before


def test_a_run_of_one_batch_does_not_go_on_with_all(probe):
    limit = "+trainer.limit_train_batches"
    made = probe(generations=0, **{limit: 1})
    with pytest.raises(IdentityError, match=r"(?m)^ +trainer.limit_train_batches: 1 there, 1.0 now$"):
        probe(generations=1, **{limit: 1.0})
    assert len(made.generations()) == 1


def test_all_differing_keys_are_listed(after_genesis):
    with pytest.raises(IdentityError) as refused:
        after_genesis(generations=0, seed=3, settings__lr=0.5)
    # seed 3 is the task's seed as well, and the model has the learning rate
    for key in ("model.lr", "seed", "settings.lr", "task.seed_value"):
        assert f"    {key}: " in str(refused.value)
    assert "name=" in str(refused.value)


def test_other_data_under_the_same_configuration_is_refused(after_genesis, fault):
    fault("seed:short")
    with pytest.raises(IdentityError, match="seed samples"):
        after_genesis(generations=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget.seconds", 10_000),
        ("patience", 5),
        ("on_failure", "go_on"),
        ("trainer.accelerator", "auto"),
        ("trainer.log_every_n_steps", 7),
        ("log", "plain"),
        ("+tracker.stage", "train"),
    ],
)
def test_operational_keys_go_on_with_the_same_run(after_genesis, key, value):
    more = (
        {"+tracker._target_": "tests.support.probe_parts.SignalAt", "+tracker.generation": 9}
        if "tracker" in key
        else {}
    )
    run = after_genesis(generations=1, **{key: value}, **more)
    assert run.exit_code is ExitCode.FINISHED
    assert kinds(run.path).count("run_created") == 1
    assert len(run.generations()) == 2


def test_default_name_is_the_seed_and_the_identity(probe):
    one, two = probe(name=None, generations=0), probe(name=None, generations=0, settings__lr=0.03)
    assert one.path.name.startswith("seed0-")
    assert two.path.name.startswith("seed0-")
    assert one.path != two.path
    assert probe(name=None, generations=1, patience=3).path == one.path


def test_debug_overlay_makes_another_run(probe):
    run = probe(name=None, debug="fast_dev_run")
    assert run.exit_code is ExitCode.FINISHED
    assert [g.number for g in run.generations()] == [0, 1]
    assert {g.record.train.facts.steps for g in run.generations()} == {2}
    assert run.path != probe(name=None, generations=0).path
