"""What the command line answers: help, subcommands, JSON, refusals. Nothing is trained here."""

from __future__ import annotations

import json
import re

import pytest

import flywheel
from tests.support.harness import MOONS, PROBE, events

SUBCOMMANDS = (
    *("status", "lineage", "show", "diff", "query", "bundle", "verify", "du", "prune", "reproduce", "stop"),
    *("recipes", "doctor"),
)
HEX = r"[0-9a-f]{64}"


@pytest.mark.parametrize("words", [("--help",), ("-h",), (), ("recipe=moons", "--help")])
def test_help(cli, words):
    done = cli(*words)
    assert done.code == 0
    assert done.out.startswith("usage: python -m flywheel recipe=NAME")
    for word in (*SUBCOMMANDS, "exit codes", "--config-dir", "0 finished", "130 interrupted"):
        assert word in done.out


def test_version(cli):
    assert cli("--version").out == f"flywheel {flywheel.__version__}\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_of_a_subcommand(cli, name):
    done = cli(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: python -m flywheel {name}")
    assert ("--json" in done.out) == (name != "stop")


def test_unknown_subcommand_has_a_near_miss(cli):
    done = cli("statsu")
    assert done.code == 2
    assert "no subcommand 'statsu'. Did you mean status?" in done.err
    assert done.out == ""


def test_unknown_option_of_a_subcommand(cli):
    assert cli("status", "--jsn").code == 2


def test_status_json_has_the_documented_keys(cli, finished):
    done = cli("status", "run", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    documented = {"run", "recipe", "state", "writer", "reason", "head", "champion", "forked_from"}
    documented |= {"error_budget", "held_out", "code_changes", "generations"}
    assert set(report) == documented
    assert report["run"].endswith("runs/moons/run")
    assert (report["recipe"], report["state"]) == ("moons", "finished")
    assert report["head"] == events(finished)[-1]["hash"]
    assert set(report["champion"]) == {"generation", "weights"}
    assert re.fullmatch(HEX, report["champion"]["weights"])
    assert [g["generation"] for g in report["generations"]] == [0, 1]
    for generation in report["generations"]:
        check_generation(generation)


def check_generation(generation):
    issue = {"generation", "parent", "init", "status", "reason", "weights", "corpus", "metrics", "cost"}
    assert set(generation) == issue | {"by_origin", "recalled", "suspect"}
    assert generation["init"] in ("fresh", "parent", "base")
    assert generation["status"] in ("promoted", "rejected")
    assert re.fullmatch(HEX, generation["weights"])
    assert re.fullmatch(HEX, generation["corpus"])
    assert {"dev", "gate"} <= set(generation["metrics"])
    for by_metric in generation["metrics"].values():
        for number in by_metric.values():
            assert set(number) == {"value", "low", "high"}
            assert 0 <= number["low"] <= number["value"] <= number["high"] <= 1
    assert generation["cost"]["seconds"] > 0
    assert {"cpu_seconds", "steps", "stages"} <= set(generation["cost"])


@pytest.mark.parametrize("run", [(), ("run",), ("moons/run",), ("moons",), ("runs/moons/run",)])
def test_status_finds_a_run_in_any_of_its_names(cli, finished, run):
    done = cli("status", *run)
    assert done.code == 0
    assert "moons/run  recipe moons  finished" in done.out
    assert "*0 promoted" in done.out or "*1 promoted" in done.out


def test_a_run_that_is_not_there(cli, finished):
    done = cli("status", "rum")
    assert done.code == 2
    assert "There is no run 'rum'" in done.err
    assert "moons/run" in done.err


@pytest.mark.parametrize("name", ["status", "lineage", "verify", "stop"])
def test_no_run_at_all(cli, name):
    done = cli(name)
    assert done.code == 2
    assert "There is no run under runs" in done.err


def test_lineage(cli, finished):
    done = cli("lineage", "run", "--json")
    entries = json.loads(done.out)["generations"]
    assert [entry["generation"] for entry in entries] == [0, 1]
    edges = {edge["type"]: edge for edge in entries[1]["edges"]}
    assert set(edges) == {"init", "trained_on", "produced_by", "graded_by", "opponent"}
    assert edges["produced_by"]["generation"] == 0
    text = cli("lineage", "run").out
    assert "generation 0 promoted" in text
    assert "generation 1" in text


def test_verify_says_that_all_is_well_and_names_what_is_not(cli, finished):
    good = cli("verify", "run", "--json")
    assert good.code == 0
    assert json.loads(good.out)["ok"] is True
    assert json.loads(good.out)["lines"] == len(events(finished))
    assert "as written" in cli("verify", "run").out
    damaged = next(iter((finished / "objects").glob("*/*.parquet")))
    damaged.write_bytes(damaged.read_bytes() + b"!")
    bad = cli("verify", "run", "--json")
    assert bad.code == 1
    assert str(damaged.relative_to(finished)) in json.loads(bad.out)["first_bad"]
    assert "does not match its hash" in cli("verify", "run").out


def test_a_changed_ledger_line_is_named_and_not_run_on(cli, finished):
    lines = (finished / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"human":10', b'"human":7')
    (finished / "ledger.jsonl").write_bytes(b"".join(lines))
    bad = cli("verify", "run")
    assert bad.code == 1
    assert "line 4" in bad.out
    again = cli(*MOONS, "name=run", "generations=3", "log=quiet")
    assert again.code == 2
    assert "line 4" in again.err


def test_recipes(cli):
    found = {r["name"]: r for r in json.loads(cli("recipes", "--json").out)}
    assert found["mnist"]["source"] == "built-in"
    assert found["mnist"]["summary"]
    assert "moons" not in found
    listed = cli("recipes", *MOONS[:2])
    assert listed.code == 0
    assert {"mnist", "moons"} <= {line.split()[0] for line in listed.out.splitlines()}


def test_doctor(cli):
    done = cli("doctor", "--json", env={"WANDB_MODE": "offline"})
    checks = {check["name"]: check for check in json.loads(done.out)}
    assert {"python", "torch", "lightning", "cpu", "gpu", "disk", "wandb login"} <= set(checks)
    assert checks["torch"]["ok"] is True
    assert done.code == (0 if all(check["ok"] for check in checks.values()) else 1)
    assert "torch" in cli("doctor").out


def test_doctor_on_a_folder_that_is_not_there_yet(cli, folder):
    done = cli("doctor", "--runs-dir", str(folder / "not" / "yet"), "--json")
    disk = next(check for check in json.loads(done.out) if check["name"] == "disk")
    assert str(folder) in disk["found"]
    assert not (folder / "not").exists()


def test_cfg_job_prints_all_keys_and_runs_nothing(cli, folder):
    done = cli(*MOONS, "seed=7", "--cfg", "job")
    assert done.code == 0
    import yaml

    config = yaml.safe_load(done.out)
    assert config["seed"] == 7
    assert config["recipe"] == "moons"
    assert config["model"]["_target_"] == "flywheel.testing.moons.model.Classifier"
    assert not list(folder.iterdir())


def test_finished_run_says_so_and_appends_nothing(cli, finished):
    before = (finished / "ledger.jsonl").read_bytes()
    done = cli(*MOONS, "name=run", "generations=1")
    assert done.code == 0
    assert "finished" in done.out
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


def test_another_identity_under_the_same_name_is_refused(cli, finished):
    before = (finished / "ledger.jsonl").read_bytes()
    done = cli(*MOONS, "name=run", "generations=1", "seed=5", "settings.steps=7")
    assert done.code == 2
    assert re.search(r"(?m)^ +seed: 0 there, 5 now$", done.err)
    assert re.search(r"(?m)^ +settings.steps: 40 there, 7 now$", done.err)
    assert (finished / "ledger.jsonl").read_bytes() == before
