"""The loop from Python: what ``run`` takes and refuses, and what ``load`` builds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from omegaconf import OmegaConf

import flywheel
from flywheel.cli.main import _job
from flywheel.errors import ConfigError, DataError, ExitCode, IdentityError, RunError
from flywheel.records import Suite
from flywheel.storage import ledger
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.model import Classifier
from flywheel.testing.moons.task import Moons

SMALL = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 0, "settings.steps": 2}
CALLS: list[str] = []


def ours(name: str) -> str:
    """Class path of a part that is defined here."""
    return f"{__name__}.{name}"


def smuggled() -> float:
    """What a forger would have us call."""
    CALLS.append("smuggled")
    return 0.5


class OwnModel(Classifier):
    """A model that no recipe names."""


class BrokenModel(Classifier):
    """Cannot be built."""

    def __init__(self, width: int, lr: float) -> None:
        raise KeyError("no such layer")


class TwinSuites(Moons):
    """Two suites of one name."""

    def suites(self) -> list[Suite]:
        return [*super().suites(), super().suites()[0]]


class SeedValueError(Moons):
    """Its data cannot be parsed."""

    def seed(self) -> pa.Table:
        raise ValueError("row 3 is no number")


class SeedNotFound(Moons):
    """Its data is not there."""

    def seed(self) -> pa.Table:
        return open("/nowhere/seed.csv").read()


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "twin suites": ({"task._target_": ours("TwinSuites")}, DataError, "Suites must have names of their own"),
    "seed: ValueError": ({"task._target_": ours("SeedValueError")}, DataError, "row 3 is no number"),
    "seed: FileNotFoundError": ({"task._target_": ours("SeedNotFound")}, DataError, "/nowhere/seed.csv"),
    "model": ({"model._target_": ours("BrokenModel")}, DataError, "no such layer"),
    "endless": ({"trainer.max_steps": -1, "trainer.max_epochs": -1}, ConfigError, "A fit must end"),
}


def run_small(runs: Path, **overrides: Any) -> flywheel.Run:
    """A tiny run of moons."""
    return flywheel.run({**SMALL, "runs_dir": str(runs), **overrides}, config_dir=CONFIG_DIR)


def rewrite(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every event of a run and seal it anew, as a forger would."""
    prev, lines = ledger.GENESIS_HASH, []
    for line in (run / "ledger.jsonl").read_bytes().splitlines():
        event = json.loads(line)
        del event["hash"]
        change(event)
        lines.append(ledger.seal({**event, "prev": prev}))
        prev = json.loads(lines[-1])["hash"]
    (run / "ledger.jsonl").write_bytes(b"".join(lines))
    (run / "HEAD").write_text(prev + "\n")


def smuggle(event: dict[str, Any]) -> None:
    """Put a target into the settings that a model was trained with."""
    if event.get("stage") == "train":
        event["facts"]["settings"]["lr"] = {"_target_": ours("smuggled")}


@pytest.fixture
def forged(run_copy: Path) -> Path:
    """A run whose hashes hold and whose recorded settings name what to call."""
    rewrite(run_copy, smuggle)
    assert flywheel.open_run(run_copy).verify().first_bad is None
    return run_copy


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> flywheel.Run:
    """A run of a model that the command line named."""
    return run_small(tmp_path_factory.mktemp("own"), **{"model._target_": ours("OwnModel")})


def test_load_calls_nothing_that_recorded_settings_name(forged: Path) -> None:
    CALLS.clear()
    champion = flywheel.open_run(forged, config_dir=CONFIG_DIR).champion()
    with pytest.raises(RunError, match=rf"names {ours('smuggled')}"):
        champion.load()
    assert not CALLS


def test_trusted_class_paths_are_built(forged: Path) -> None:
    CALLS.clear()
    run = flywheel.open_run(forged, config_dir=CONFIG_DIR, trusted={ours("smuggled")})
    assert run.champion().load().lr == 0.5
    assert CALLS


def test_a_model_of_ones_own_is_loaded_from_the_run_that_run_returned(own_run: flywheel.Run) -> None:
    assert own_run.exit_code is ExitCode.FINISHED
    assert isinstance(own_run.champion().load(), OwnModel)


def test_a_model_of_ones_own_is_loaded_by_who_started_it_and_elsewhere_if_trusted(
    own_run: flywheel.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(flywheel.open_run(own_run.path).champion().load(), OwnModel)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # as another user's
    with pytest.raises(RunError, match="OwnModel"):
        flywheel.open_run(own_run.path, config_dir=CONFIG_DIR).champion().load()
    opened = flywheel.open_run(own_run.path, config_dir=CONFIG_DIR, trusted={ours("OwnModel")})
    assert isinstance(opened.champion().load(), OwnModel)


def test_a_run_that_was_finished_before_is_loaded_too(own_run: flywheel.Run) -> None:
    again = run_small(own_run.path.parents[1], **{"model._target_": ours("OwnModel")})
    assert again.path == own_run.path
    assert isinstance(again.champion().load(), OwnModel)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_run_is_refused_before_there_is_a_run(tmp_path: Path, what: str) -> None:
    overrides, error, words = REFUSED[what]
    with pytest.raises(error, match=words) as refused:
        run_small(tmp_path / "runs", **overrides)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert not (tmp_path / "runs").exists()


def test_a_fit_may_end_by_time_alone(tmp_path: Path) -> None:
    limits = {"trainer.max_steps": -1, "trainer.max_epochs": -1, "+trainer.max_time": "00:00:01:00"}
    assert run_small(tmp_path, **limits, genesis="fresh").exit_code is ExitCode.FINISHED


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_there_is_a_run(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=r"(?i)cuda|gpu|accelerator"):
        run_small(tmp_path / "runs", **{"trainer.accelerator": "gpu"})
    assert not (tmp_path / "runs").exists()


def test_a_plain_dictconfig_is_run_like_the_dict(tmp_path: Path) -> None:
    config = {"recipe": "moons", "log": "quiet", "threads": 1, "generations": 0, "settings": {"steps": 2}}
    given = OmegaConf.create({**config, "runs_dir": str(tmp_path / "conf")})
    one = flywheel.run(given, config_dir=CONFIG_DIR)
    other = run_small(tmp_path / "dict")
    assert one.exit_code is other.exit_code is ExitCode.FINISHED
    assert one.path.relative_to(tmp_path / "conf") == other.path.relative_to(tmp_path / "dict")
    assert one.champion().weights == other.champion().weights


def test_a_plain_dictconfig_may_refer_to_its_own_keys(tmp_path: Path) -> None:
    given = OmegaConf.create({**SMALL, "runs_dir": str(tmp_path), "seed": 3, "name": "seed-${seed}"})
    run = flywheel.run(given, config_dir=CONFIG_DIR)
    assert run.path.name == "seed-3"


def test_refused_for_its_identity_before_anything_is_written(own_run: flywheel.Run) -> None:
    before = (own_run.path / "ledger.jsonl").read_bytes()
    with pytest.raises(IdentityError, match=r"settings\.steps: 2 there, 3 now"):
        run_small(own_run.path.parents[1], **{"name": own_run.path.name, "settings.steps": 3})
    assert (own_run.path / "ledger.jsonl").read_bytes() == before


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[int], list[int]]]:
    """Runs a sweep whose jobs end with these codes; returns what they said and which were begun."""
    from hydra.core.hydra_config import HydraConfig

    hydra = SimpleNamespace(runtime=SimpleNamespace(choices={}))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra))
    monkeypatch.setattr("flywheel.config.compose.checked", lambda config, choices: config)

    def run(*codes: ExitCode) -> tuple[list[int], list[int]]:
        begun: list[int] = []

        def launch(number: int, config_dir: str | None) -> int:
            begun.append(number)
            return int(codes[number])

        monkeypatch.setattr("flywheel.cli.main._launch", launch)
        job = _job(None)
        return [job(number) for number in range(len(codes))], begun

    return run


@pytest.mark.parametrize("code", [ExitCode.STOPPED, ExitCode.INTERRUPTED])
def test_no_job_of_a_sweep_is_begun_after_one_was_stopped(sweep: Any, code: ExitCode) -> None:
    said, begun = sweep(ExitCode.FINISHED, code, ExitCode.FINISHED, ExitCode.FINISHED)
    assert begun == [0, 1]
    assert said == [0, code, code, code]


def test_jobs_of_a_sweep_go_on_after_one_that_failed(sweep: Any) -> None:
    said, begun = sweep(ExitCode.FAILED, ExitCode.REFUSED, ExitCode.FINISHED)
    assert begun == [0, 1, 2]
    assert said == [1, 2, 0]
