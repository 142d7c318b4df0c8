"""What the command line answers: help, subcommands, JSON, refusals. Nothing is trained here."""

import json
import re

import pytest
import yaml

import flywheel
from flywheel.cli.commands import NAMES
from flywheel.lineage.status import status
from tests.support.harness import MOONS, PROBE, events


@pytest.mark.parametrize("words", [("--help",), ("-h",), (), ("recipe=moons", "--help")])
def test_help(answer, words):
    text = answer(*words)
    assert text.startswith("usage: python -m flywheel recipe=NAME")
    for word in (*NAMES, "exit codes", "--config-dir", "0 finished", "130 interrupted"):
        assert word in text


def test_version(answer):
    assert answer("--version") == f"flywheel {flywheel.__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_subcommand(answer, name):
    text = answer(name, "--help")
    assert text.startswith(f"usage: python -m flywheel {name}")
    assert ("--json" in text) == (name not in ("new", "report", "resume", "sign", "stop"))


def test_unknown_subcommand_has_a_near_miss(refusal):
    assert "no subcommand 'statsu'. Did you mean status?" in refusal("statsu")


def test_unknown_option_of_a_subcommand(cli):
    assert cli("status", "--jsn").code == 2


def test_status_json_is_what_python_answers(json_answer, finished):
    assert json_answer("status", "run") == {**status(finished).json(), "run": "runs/moons/run"}


@pytest.mark.parametrize("run", [(), ("run",), ("moons/run",), ("moons",), ("runs/moons/run",)])
def test_status_finds_a_run_in_any_of_its_names(answer, finished, run):
    text = answer("status", *run)
    assert "moons/run  recipe moons  finished" in text
    assert "*0 promoted" in text or "*1 promoted" in text


def test_a_run_that_is_not_there(refusal, finished):
    assert re.search("There is no run 'rum'.*moons/run", refusal("status", "rum"))


@pytest.mark.parametrize("name", ["status", "lineage", "verify", "stop"])
def test_no_run_at_all(refusal, name):
    assert "There is no run under runs" in refusal(name)


def test_lineage(answer, json_answer, finished):
    assert json_answer("lineage", "run") == {
        **flywheel.open_run(finished).lineage().json(),
        "run": "runs/moons/run",
    }
    text = answer("lineage", "run")
    assert "generation 0 promoted" in text
    assert "generation 1" in text


def test_verify_says_that_all_is_well_and_names_what_is_not(cli, answer, json_answer, finished):
    good = json_answer("verify", "run")
    assert (good["ok"], good["lines"]) == (True, len(events(finished)))
    assert "as written" in answer("verify", "run")
    damaged = next(iter((finished / "objects").glob("*/*.parquet")))
    damaged.write_bytes(damaged.read_bytes() + b"!")
    bad = cli("verify", "run")
    assert bad.code == 1
    assert re.search(rf"{damaged.relative_to(finished)}.* does not match its hash", bad.out)


def test_a_changed_ledger_line_is_named_and_not_run_on(cli, refusal, finished):
    lines = (finished / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"human":10', b'"human":7')
    (finished / "ledger.jsonl").write_bytes(b"".join(lines))
    bad = cli("verify", "run")
    assert (bad.code, "line 4" in bad.out) == (1, True)
    assert "line 4" in refusal(*MOONS, "name=run", "generations=3", "log=quiet")


def test_recipes(answer, json_answer):
    recipes = {recipe["name"]: recipe for recipe in json_answer("recipes")}
    assert recipes["mnist"]["source"] == "built-in"
    assert recipes["mnist"]["summary"]
    assert "moons" not in recipes
    listed = answer("recipes", *MOONS[:2])
    assert {"mnist", "moons"} <= {line.split()[0] for line in listed.splitlines()}


def test_doctor(cli, folder):
    """The folder of runs need not be there yet."""
    words = ("doctor", "--runs-dir", str(folder / "not" / "yet"), "--json")
    done = cli(*words, env={"WANDB_MODE": "offline"})
    checks = {check["name"]: check for check in json.loads(done.out)}
    assert {"python", "torch", "lightning", "cpu", "gpu", "disk", "wandb login"} <= set(checks)
    assert checks["torch"]["ok"] is True
    assert done.code == (0 if all(check["ok"] for check in checks.values()) else 1)
    assert str(folder) in checks["disk"]["found"]
    assert not (folder / "not").exists()
    assert "torch" in cli("doctor").out


def test_cfg_job_prints_all_keys_and_runs_nothing(answer, folder):
    config = yaml.safe_load(answer(*MOONS, "seed=7", "--cfg", "job"))
    assert config["seed"] == 7
    assert config["recipe"] == "moons"
    assert config["model"]["_target_"] == "flywheel.testing.moons.model.Classifier"
    assert not list(folder.iterdir())


def test_finished_run_says_so_and_appends_nothing(answer, finished):
    before = (finished / "ledger.jsonl").read_bytes()
    assert "finished" in answer(*MOONS, "name=run", "generations=1")
    assert (finished / "ledger.jsonl").read_bytes() == before


REFUSALS = {
    "no recipe": (("seed=1",), "give recipe=NAME"),
    "recipe": (("recipe=minst",), "There is no recipe 'minst'. Did you mean mnist?"),
    "key": ((*MOONS, "genertions=2"), "no key 'genertions'. Did you mean generations"),
    "nested key": ((*MOONS, "settings.leraning=2"), "no key 'settings.leraning'"),
    "type": ((*MOONS, "generations=many"), "generations: Value 'many'"),
    "recipe's type": ((*MOONS, "settings.steps=many"), "settings.steps: Value 'many'"),
    "choice": ((*MOONS, "init=grown"), "init"),
    "range": ((*MOONS, "generations=-1"), "generations must be 0 or more; it is -1"),
    "budget's range": ((*MOONS, "budget.seconds=0"), "budget.seconds must be above 0"),
    "recipe's range": ((*MOONS, "settings.lr=2"), "lr must be between 0 and 1; it is 2"),
    "gate's range": ((*MOONS, "error_budget.alpha=1.5"), "alpha must be between 0 and 1"),
    "least effect": (
        (*MOONS, "+gate.min_effect=2"),
        "gate.min_effect must be at least 0 and below 1; it is 2",
    ),
    "name": ((*MOONS, "name=../up"), "name must be letters"),
    "component's key": ((*MOONS, "+gate.alhpa=0.1"), "gate.alhpa is no argument of"),
    "group": ((*MOONS, "tracker=wandbb"), "wandbb"),
    "class path": (
        (*MOONS, "model._target_=tests.support.probe_parts.Modle"),
        "no 'Modle'. Did you mean Model",
    ),
    "module path": ((*MOONS, "gate._target_=flywheel.gats.X"), "flywheel.gats.X"),
    "devices": ((*MOONS, "trainer.devices=2"), "torchrun --nproc-per-node=2 -m flywheel recipe=moons"),
    "config dir": (("--config-dir", "nowhere", "recipe=moons"), "nowhere"),
    "syntax": ((*MOONS, "settings.lr=[1,"), "[1,"),
    "no module": (
        (*PROBE, "model._target_=tests.support.probe_parts.NotAModule"),
        "must be a LightningModule",
    ),
    "no step": (
        (*PROBE, "model._target_=tests.support.probe_parts.NoTrainingStep"),
        "must have training_step",
    ),
    "no rows": ((*PROBE, "PROBE_FAULT=seed:empty"), "Seed samples must have at least one row"),
    "not finite": ((*PROBE, "PROBE_FAULT=seed:nan"), "Seed samples must have finite numbers"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refused_clearly_before_anything_is_written(cli, folder, what):
    words, message = REFUSALS[what]
    env = dict(word.split("=") for word in words if word.startswith("PROBE_FAULT="))
    done = cli(*(word for word in words if not word.startswith("PROBE_FAULT=")), env=env)
    assert (done.code, message in done.err) == (2, True), done
    assert what == "module path" or "Traceback" not in done.err
    assert done.out == ""
    assert not list(folder.iterdir())


def test_the_users_own_import_error_is_shown_whole(cli):
    done = cli(*PROBE, "model._target_=tests.support.broken_import.Model")
    assert done.code == 2
    assert "model._target_ must be a class path that imports" in done.err
    assert "broken_import.py" in done.err
    assert "import a_library_that_nobody_has" in done.err
    assert "ModuleNotFoundError: No module named 'a_library_that_nobody_has'" in done.err


def test_another_identity_under_the_same_name_is_refused(refusal, finished):
    before = (finished / "ledger.jsonl").read_bytes()
    reasons = refusal(*MOONS, "name=run", "generations=1", "seed=5", "settings.steps=7")
    assert re.search(r"(?m)^ +seed: 0 there, 5 now$", reasons)
    assert re.search(r"(?m)^ +settings.steps: 40 there, 7 now$", reasons)
    assert (finished / "ledger.jsonl").read_bytes() == before
