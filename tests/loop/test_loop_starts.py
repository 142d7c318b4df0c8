"""Where weights come from: the parent, the user's own checkpoint, or nowhere."""

from __future__ import annotations

import pickle

import pytest
import torch

from flywheel.errors import ConfigError, ExitCode
from flywheel.testing.moons.model import Classifier
from tests.support.harness import events

STILL = {"settings__lr": 1e-9, "settings__steps": 1, "settings__width": 8}
"""Training that changes next to nothing, so that weights tell where they started."""


def weights_of(run, number):
    return run.generations()[number].load().state_dict()


def close(one, two):
    return all(torch.allclose(one[name], two[name], atol=1e-6) for name in two)


@pytest.fixture
def module():
    torch.manual_seed(17)
    return Classifier(width=8)


@pytest.fixture
def safetensors(module, tmp_path):
    from safetensors.torch import save_file

    save_file(module.state_dict(), tmp_path / "base.safetensors")
    return str(tmp_path / "base.safetensors")


@pytest.fixture
def checkpoint(module, tmp_path):
    """A checkpoint that a user's own Lightning script left."""
    import lightning

    points = torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    module.lr = 1e-12
    trainer = lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, torch.utils.data.DataLoader(points, batch_size=4))
    trainer.save_checkpoint(tmp_path / "base.ckpt")
    return str(tmp_path / "base.ckpt")


def test_init_parent_starts_from_the_champion(probe):
    run = probe(init="parent", generations=1, **STILL)
    assert close(weights_of(run, 1), weights_of(run, 0))
    assert [g["init"] for g in run.status().json()["generations"]] == ["fresh", "parent"]


def test_init_fresh_starts_anew_in_each_generation(probe):
    run = probe(init="fresh", generations=2, **STILL)
    assert not close(weights_of(run, 1), weights_of(run, 0))
    assert not close(weights_of(run, 2), weights_of(run, 1))


def test_init_base_starts_from_the_users_weights_every_time(probe, module, safetensors):
    run = probe(init="base", base=safetensors, generations=2, **STILL)
    assert [g["init"] for g in run.status().json()["generations"]] == ["base", "base", "base"]
    assert all(close(weights_of(run, n), module.state_dict()) for n in (0, 1, 2))


@pytest.mark.parametrize("kind", ["safetensors", "checkpoint"])
def test_genesis_load_adopts_the_base_as_it_is(probe, module, request, kind):
    run = probe(genesis="load", base=request.getfixturevalue(kind), generations=0)
    loaded = weights_of(run, 0)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in module.state_dict().items())
    assert run.status().json()["generations"][0]["cost"]["steps"] == 0


def test_genesis_load_goes_on_to_learn(probe, safetensors):
    run = probe(genesis="load", base=safetensors, init="parent", generations=1)
    assert run.exit_code is ExitCode.FINISHED
    assert [g["status"] for g in run.status().json()["generations"]] == ["promoted", "promoted"]


def test_genesis_fresh_is_an_untrained_model(probe):
    run = probe(genesis="fresh", generations=1)
    assert [g["cost"]["steps"] for g in run.status().json()["generations"]] == [0, 20]
    assert "train" not in [e.get("stage") for e in events(run.path) if e.get("generation") == 0]


def test_the_base_is_part_of_the_identity_by_content(probe, module, safetensors, tmp_path):
    from safetensors.torch import save_file

    first = probe(name=None, genesis="load", base=safetensors, generations=0)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((tmp_path / "base.safetensors").read_bytes())
    assert probe(name=None, genesis="load", base=str(copy), generations=0).path == first.path
    save_file({name: tensor + 1 for name, tensor in module.state_dict().items()}, copy)
    assert probe(name=None, genesis="load", base=str(copy), generations=0).path != first.path


@pytest.mark.parametrize("needing", [{"init": "base"}, {"genesis": "load"}])
def test_base_is_asked_for_where_it_is_needed(probe, needing):
    with pytest.raises(ConfigError, match="base=PATH"):
        probe(**needing)


def test_base_that_is_no_file_is_refused(probe):
    with pytest.raises(ConfigError, match=r"base must be an existing .*nowhere\.ckpt"):
        probe(genesis="load", base="nowhere.ckpt")


class _Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a checkpoint was unpickled')",))


def test_a_base_with_objects_in_it_is_not_unpickled(probe, tmp_path):
    (tmp_path / "trap.ckpt").write_bytes(pickle.dumps({"state_dict": _Trap()}))
    assert "weights_only=True" in refusal_of(probe, genesis="load", base=str(tmp_path / "trap.ckpt"))


def test_a_base_of_another_shape_is_refused(probe, tmp_path):
    from safetensors.torch import save_file

    save_file(Classifier(width=5).state_dict(), tmp_path / "small.safetensors")
    assert "do not fit" in refusal_of(probe, genesis="load", base=str(tmp_path / "small.safetensors"))


def refusal_of(probe, **overrides):
    """Why a run was refused, or why its first generation failed."""
    try:
        run = probe(**overrides)
    except ConfigError as error:
        return str(error)
    assert run.exit_code is ExitCode.FAILED
    return run.status().json()["generations"][0]["reason"]
