"""Promotion: evidence, consent, carries, tuning, and when a run ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import flywheel
from flywheel.errors import ExitCode, RunError
from flywheel.records import TrialResult
from flywheel.storage.store import Store
from flywheel.testing.moons.task import Moons
from tests.support.harness import champion_hash, events

PAIRED = {"gate._target_": "flywheel.gates.paired.Paired"}
REVIEWED = {"review._target_": "tests.support.probe_parts.Reviewer"}
STILL = {"settings.lr": 1e-9, "settings.steps": 1}


def statuses(run):
    return [g["status"] for g in run.status().json()["generations"]]


def carry_of(run, component):
    """The carry that is in force at the end of a run."""
    kept = [e["carry"][component] for e in events(run.path) if component in e.get("carry", {})]
    return Store(run.path).json(kept[-1]) if kept else None


def test_a_tie_never_promotes(probe):
    run = probe(generations=1, init="parent", **PAIRED, **STILL)
    report = run.status().json()["generations"]
    assert report[0]["metrics"] == {**report[1]["metrics"], "sealed": report[0]["metrics"]["sealed"]}
    assert statuses(run) == ["promoted", "rejected"]
    assert report[1]["reason"].startswith("not shown to be better on 80 items, exact McNemar: p 1 >")


def test_evidence_promotes(probe):
    """Against an untrained champion, a trained candidate wins on the same items."""
    run = probe(generations=1, genesis="fresh", **PAIRED)
    before, after = run.status().json()["generations"]
    gate = next(e for e in events(run.path) if e.get("stage") == "gate")["facts"]["verdict"]
    better = after["metrics"]["gate"]["accuracy"]["value"] > before["metrics"]["gate"]["accuracy"]["value"]
    assert gate["promote"] == (better and gate["p_value"] <= gate["level"] == 0.05)
    assert after["status"] == ("promoted" if gate["promote"] else "rejected")


def test_a_rejected_candidate_leaves_the_champion_in_force(probe):
    run = probe(generations=2, **{"+gate.promote": False})
    assert statuses(run) == ["promoted", "rejected", "rejected"]
    assert [g["parent"] for g in run.status().json()["generations"]] == [None, 0, 0]
    assert run.champion().number == 0


def test_review_waits_then_promotes(probe, monkeypatch):
    waiting = probe(generations=1, **REVIEWED)
    assert waiting.exit_code is ExitCode.AWAITING_REVIEW
    assert waiting.status().json()["state"] == "awaiting_review"
    assert statuses(waiting) == ["promoted", "unfinished"]
    assert probe(generations=1, **REVIEWED).exit_code is ExitCode.AWAITING_REVIEW
    monkeypatch.setenv("PROBE_CONSENT", "yes")
    run = probe(generations=1, **REVIEWED)
    assert run.exit_code is ExitCode.FINISHED
    assert statuses(run) == ["promoted", "promoted"]
    stages = [e["stage"] for e in events(run.path) if e["event"] == "stage" and e["generation"] == 1]
    assert stages.count("train") == 1, "waiting costs no second fit"


def test_review_that_says_no_rejects(probe, monkeypatch):
    monkeypatch.setenv("PROBE_CONSENT", "no")
    run = probe(generations=1, **REVIEWED)
    assert statuses(run) == ["promoted", "rejected"]
    assert run.status().json()["generations"][1]["reason"].startswith("the review said no")
    assert run.champion().number == 0


def test_nobody_is_asked_about_what_the_gate_rejected(probe):
    run = probe(generations=1, **REVIEWED, **{"+gate.promote": False})
    assert run.exit_code is ExitCode.FINISHED
    assert "review" not in [e.get("stage") for e in events(run.path)]


@pytest.mark.parametrize(
    ("kept", "promote", "turns"),
    [("promotion", True, 3), ("promotion", False, 1), ("always", True, 3), ("always", False, 3)],
)
def test_a_carry_is_kept_as_declared(probe, kept, promote, turns):
    run = probe(generations=2, **{"+curator.kept": kept, "+gate.promote": promote})
    assert carry_of(run, "curator") == {"turns": turns}


def test_a_tuner_tries_settings_and_the_best_holds(probe):
    run = probe(generations=2, **{"+tuner.rates": [0.001, 0.05]})
    tunings = [e for e in events(run.path) if e.get("stage") == "tune"]
    fits = [e["facts"]["settings"]["lr"] for e in events(run.path) if e.get("stage") == "train"]
    for tuning, rate in zip(tunings, fits, strict=True):
        results = [TrialResult.of(r) for r in Store(run.path).json(tuning["outputs"]["trials"])]
        assert [(r.number, r.trial.settings["lr"]) for r in results] == [(0, 0.001), (1, 0.05)]
        best = max(results, key=lambda result: result.score)
        assert tuning["facts"]["settings"]["lr"] == best.trial.settings["lr"] == rate
        assert all(r.suites == {"dev": r.score} and r.trial.fidelity == 0.25 for r in results)
        assert tuning["facts"]["units"]["count"] == 2
    assert carry_of(run, "tuner") == {"taken": fits}


def test_a_tuner_may_choose_the_start_and_only_one_that_exists(probe):
    run = probe(generations=1, **{"+tuner.init": "parent"})
    assert run.exit_code is ExitCode.FAILED  # genesis has no parent
    assert "init must be one of fresh" in run.status().json()["generations"][0]["reason"]


def test_tuned_settings_build_the_model_that_loads(probe):
    run = probe(generations=1, **{"+tuner.rates": [0.007]})
    assert run.champion().load().lr == 0.007


def test_budget_stops_and_a_larger_one_goes_on(probe, uninterrupted):
    run = probe(budget__seconds=0.001)
    assert run.exit_code is ExitCode.STOPPED
    assert run.status().json()["state"] == "stopped"
    assert "budget of 0.001 s" in run.status().json()["reason"]
    assert statuses(run) == ["unfinished"], "within the first generation"
    run = probe(budget__seconds=1000)
    assert run.exit_code is ExitCode.FINISHED
    assert champion_hash(run.path) == champion_hash(uninterrupted.path)


def test_patience_ends_a_run(probe):
    run = probe(generations=9, patience=2, **{"+gate.promote": False})
    assert run.exit_code is ExitCode.FINISHED
    assert statuses(run) == ["promoted", "rejected", "rejected"]
    assert run.status().json()["reason"] == "patience"
    before = len(events(run.path))
    assert probe(generations=9, patience=2, **{"+gate.promote": False}).exit_code is ExitCode.FINISHED
    assert len(events(run.path)) == before
    assert len(statuses(probe(generations=9, patience=3, **{"+gate.promote": False}))) == 4


def test_the_sealed_suite_is_looked_at_once_and_last(uninterrupted):
    looks = [e for e in events(uninterrupted.path) if e.get("stage") == "sealed"]
    assert [e["generation"] for e in looks] == [0, uninterrupted.champion().number]
    assert [e["event"] for e in events(uninterrupted.path)][-3:] == ["stage", "stage", "run_finished"]
    sealed = [g for g in uninterrupted.status().json()["generations"] if "sealed" in g["metrics"]]
    assert [g["generation"] for g in sealed] == [0, uninterrupted.champion().number]


def test_a_loaded_champion_predicts_as_it_was_scored(uninterrupted):
    champion = uninterrupted.champion()
    model = champion.load()
    assert not model.training
    with torch.inference_mode():
        suites = {s.name: s for s in Moons(seed_value=0).suites()}
        scores = Moons(seed_value=0).evaluate(model, None, suites["gate"].items, None)
    outcomes = Store(uninterrupted.path).table(champion.record.output("evaluate", "outcomes")).to_pydict()
    recorded = [s for s, name in zip(outcomes["score"], outcomes["suite"], strict=True) if name == "gate"]
    assert np.array_equal(scores, recorded)
    assert champion.file.suffix == ".safetensors"
    dev = [s for s, name in zip(outcomes["score"], outcomes["suite"], strict=True) if name == "dev"]
    assert champion.metrics["dev"]["accuracy"].value == pytest.approx(np.mean(dev))


def test_open_run_reads_what_run_returned(uninterrupted):
    opened = flywheel.open_run(uninterrupted.path, config_dir=uninterrupted.config_dir)
    assert opened.status() == uninterrupted.status()
    for name, tensor in uninterrupted.champion().load().state_dict().items():
        assert torch.equal(opened.champion().load().state_dict()[name], tensor)


def test_a_class_that_no_recipe_names_is_not_built(uninterrupted, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # whoever opens it did not start it
    with pytest.raises(RunError, match=r"probe_parts\.Model"):
        flywheel.open_run(uninterrupted.path).champion().load()


def test_no_run_no_champion(tmp_path, probe, fault):
    with pytest.raises(RunError, match=r"ledger\.jsonl"):
        flywheel.open_run(tmp_path)
    fault("train:nan")
    with pytest.raises(RunError, match="no champion yet"):
        probe(generations=0).champion()
