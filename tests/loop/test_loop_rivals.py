"""Several producers: who made which rows, what they come to, and what descends from whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import torch
from msgspec.structs import replace

import flywheel
from flywheel.errors import ConfigError, ExitCode
from flywheel.export import bundle
from flywheel.lineage.graph import Graph, ProducedBy, descend
from flywheel.lineage.samples import read_samples
from flywheel.lineage.status import read_state
from flywheel.metrics.proportions import proportion
from flywheel.protocols import TunerView
from flywheel.records import Trial
from flywheel.storage.store import Store
from flywheel.testing.moons.model import Classifier
from tests.support.harness import events
from tests.support.loop_runs import Probe
from tests.support.probe_parts import Tuner

OLD = {"+rivals.old.generation": 1, "+rivals.old.share": 0.5}
REJECTED = {"+gate.promote": False, "settings.threshold": 0.0}
"""All turns build on generation 0, and all that was generated is kept."""


def facts_of(run: flywheel.Run, number: int) -> dict[str, Any]:
    (facts,) = [e["facts"] for e in events(run.path, stage="generate", generation=number)]
    return facts


def makers(run: flywheel.Run, number: int) -> dict[str, list[str]]:
    """Weights -> the prompts that they answered."""
    answered: dict[str, list[str]] = {}
    for row in read_samples(run.path, number).to_pylist():
        answered.setdefault(row["made_by"], []).append(row["prompt"])
    return answered


def produced_by(run: flywheel.Run, number: int) -> list[tuple[int | None, int]]:
    state = read_state(run.path)
    edges = Graph(Store(run.path), state).edges(state.generations[number])
    return [(edge.generation, edge.made_in) for edge in edges if isinstance(edge, ProducedBy)]


def weights(run: flywheel.Run, number: int) -> str:
    return str(run.generation(number).record.weights)


def test_an_earlier_generation_answers_a_share_of_the_prompts_beside_the_parent(probe: Probe) -> None:
    run = probe(generations=2, chunk_size=50, **OLD, **REJECTED)
    assert run.exit_code is ExitCode.FINISHED
    assert "rivals" not in facts_of(run, 1), "there is no generation 1 yet"
    answered = makers(run, 2)
    assert answered.keys() == {weights(run, 0), weights(run, 1)}
    own, others = answered[weights(run, 0)], answered[weights(run, 1)]
    assert sorted(own) == sorted(f"unlabelled-{k}" for k in range(120))
    assert len(set(others)) == len(others)
    assert 40 < len(others) < 80
    assert facts_of(run, 2)["rivals"] == {
        "old": {"weights": weights(run, 1), "generation": 1, "prompts": len(others), "samples": len(others)}
    }
    rows = read_samples(run.path, 2)
    assert rows["group"].equals(rows["prompt"]), "what both answer shares a group"
    assert len(set(rows["id"].to_pylist())) == len(rows) == 120 + len(others)
    assert set(produced_by(run, 2)) == {(None, 0), (0, 2), (1, 2)}
    assert run.verify().first_bad is None


def test_what_a_rival_answers_depends_neither_on_units_nor_on_other_rivals(probe: Probe) -> None:
    def asked(**words: Any) -> list[str]:
        run = probe(generations=2, **OLD, **REJECTED, **words)
        return sorted(makers(run, 2)[weights(run, 1)])

    alone = asked(name="one")
    assert asked(name="two", chunk_size=7) == alone
    assert asked(name="three", **{"+rivals.again.generation": 1}) == alone, "the same weights answer once"


def test_show_says_who_made_what_was_kept(probe: Probe) -> None:
    run = probe(generations=2, **OLD, **REJECTED)
    shown = run.show(2)
    assert shown.batch is not None
    assert shown.batch.rivals["old"].samples == len(makers(run, 2)[weights(run, 1)])
    kept = {(share.made_by_generation, share.rival): share.rows for share in shown.data.by_origin}
    rows = read_samples(run.path, 2)
    drawn = rows.filter(pc.and_(rows["keep"], pc.greater(rows["count"], 0)))
    for number, rival in ((0, None), (1, "old")):
        assert kept[number, rival] == drawn["made_by"].to_pylist().count(weights(run, number))


AUDITED = {"+audit.grader._target_": "tests.loop.test_loop_audits.Truth", "audit.size": 90}


def test_show_says_what_each_producer_gave_and_how_much_of_it_is_right(probe: Probe) -> None:
    run = probe(generations=2, **OLD, **REJECTED, **AUDITED, **{"+curator.best_of_group": True})
    assert run.show(1).contributions == ()
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read_samples(run.path, 2).to_pylist():
        groups.setdefault(row["group"], {})[row["made_by"]] = row
    shared = [group for group in groups.values() if len(group) == 2]
    assert all(sum(row["keep"] for row in group.values()) == 1 for group in groups.values())
    for number, given in zip((0, 1), run.show(2).contributions, strict=True):
        maker = weights(run, number)
        ours = [group[maker] for group in groups.values() if maker in group]
        alone = [group[maker] for group in shared if group[maker]["keep"]]
        assert (given.name, given.generation) == (("parent", 0), ("old", 1))[number]
        assert f"{given.weights}.safetensors" == maker
        assert (given.rows, given.kept) == (len(ours), sum(row["keep"] for row in ours))
        assert (given.shared, given.kept_alone) == (len(shared), len(alone))
        audited = [row["audited"] for row in ours if row["keep"] and row["audited"] is not None]
        audited_alone = [row["audited"] for row in alone if row["audited"] is not None]
        assert 0 < given.audited_alone <= given.audited
        assert (given.audited, given.right) == (len(audited), proportion(int(sum(audited)), len(audited)))
        assert given.audited_alone == len(audited_alone)
        assert given.right_alone == proportion(int(sum(audited_alone)), len(audited_alone))


def test_a_row_that_the_audit_found_wrong_still_counts_against_its_maker(probe: Probe) -> None:
    curator = {"curator._target_": "tests.loop.test_loop_audits.KeepsAll"}
    run = probe(generations=2, **OLD, **REJECTED, **AUDITED, **curator)
    rows = [row for row in read_samples(run.path, 2).to_pylist() if row["audited"] == 0]
    assert rows, "the audit found some"
    assert not any(row["keep"] for row in rows), "and the curator drops these"
    for number, given in zip((0, 1), run.show(2).contributions, strict=True):
        wrong = sum(row["made_by"] == weights(run, number) for row in rows)
        assert given.right is not None
        assert round(given.audited * (1 - given.right.value)) == wrong


def test_exactly_the_rows_of_a_flawed_rival_descend_from_it(probe: Probe) -> None:
    run = probe(generations=2, **OLD, **REJECTED)
    state, store = read_state(run.path), Store(run.path)
    descent = descend(store, state, generations=[1], batches=False)
    rows = read_samples(run.path, 2)
    theirs = rows.filter(pc.equal(rows["made_by"], weights(run, 1)))["id"].to_pylist()
    assert {turn: sorted(ids.to_pylist()) for turn, ids in descent.samples.items()} == {2: sorted(theirs)}
    assert descent.flawed == {1: ["named"], 2: ["trained_on"]}
    (sample,) = [run.trace(sample=name).sample for name in theirs[:1]]
    assert sample is not None
    assert sample.made_by_generation == 1


def test_a_recalled_generation_is_no_rival_any_more(probe: Probe) -> None:
    run = probe(generations=1, **OLD, **REJECTED)
    run.recall(generation=1, why="a wrong grader", yes=True)
    again = probe(generations=2, **OLD, **REJECTED)
    (last,) = events(again.path, stage="generate", generation=2)
    assert "rivals" not in last["facts"]


def test_a_rivals_weights_outlive_a_policy(probe: Probe) -> None:
    run = probe(generations=4, **OLD, **REJECTED, **{"retention.last": 0})
    assert set(facts_of(run, 4)["rivals"]) == {"old"}
    state = read_state(run.path)
    assert weights(run, 1) not in state.pruned
    assert weights(run, 2) in state.pruned
    assert run.verify().first_bad is None


@pytest.fixture
def imported(folder: Path) -> Path:
    from safetensors.torch import save_file

    torch.manual_seed(3)
    save_file(Classifier(width=8).state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("is_folder", [False, True])
def test_weights_from_elsewhere_may_be_a_rival(probe: Probe, imported: Path, is_folder: bool) -> None:
    path = imported.parent if is_folder else imported
    run = probe(generations=1, **{"+rivals.other.weights": str(path)}, **REJECTED)
    assert run.exit_code is ExitCode.FINISHED
    own = run.generation(0).record.output("seed", "rival_other")
    assert makers(run, 1).keys() == {weights(run, 0), own}
    state = read_state(run.path)
    edges = Graph(Store(run.path), state).edges(state.generations[1])
    (edge,) = [edge for edge in edges if isinstance(edge, ProducedBy) and edge.weights]
    assert (edge.generation, f"{edge.weights}.safetensors") == (None, own)
    row = next(row for row in read_samples(run.path, 1).to_pylist() if row["made_by"] == own)
    sample = run.trace(sample=row["id"]).sample
    assert sample is not None
    assert (sample.made_by, sample.made_by_generation) == (edge.weights, None)
    flawed = descend(Store(run.path), state, weights=[str(own)])
    assert flawed.flawed == {1: ["trained_on"]}
    bundle.bundle(run.path, 0, imported.parent / "bundle")
    assert run.verify().first_bad is None


def test_the_identity_has_a_rivals_content_and_not_its_place(probe: Probe, imported: Path) -> None:
    moved = imported.with_name("elsewhere.safetensors")
    run = probe(generations=0, **{"+rivals.other.weights": str(imported)})
    imported.rename(moved)
    assert probe(generations=0, **{"+rivals.other.weights": str(moved)}).path == run.path


class Regenerates(Tuner):
    """Tries a rate in each turn, on data that is generated anew."""

    def ask(self, view: TunerView) -> Trial | None:
        trial = super().ask(view) if "parent" in view.starts else None
        return trial and replace(trial, redo_from="generate")


def test_a_trial_that_generates_anew_asks_the_rivals_too(probe: Probe) -> None:
    tuner = {"tuner._target_": f"{__name__}.Regenerates", "+tuner.rates": [0.01]}
    run = probe(generations=2, **OLD, **REJECTED, **tuner)
    assert run.exit_code is ExitCode.FINISHED
    (tuned,) = events(run.path, stage="tune", generation=2)
    assert tuned["inputs"]["rivals.old"] == weights(run, 1)
    assert tuned["facts"]["units"]["count"] == 1


WRONG = {
    "one of generation and weights": {"+rivals.old.share": 0.5},
    "generation must be 0 or more": {"+rivals.old.generation": -1},
    "share must be above 0": {"+rivals.old.generation": 0, "+rivals.old.share": 0.0},
    "must be an existing .safetensors": {"+rivals.old.weights": "nowhere.safetensors"},
}


@pytest.mark.parametrize("rule", WRONG)
def test_wrong_rivals_are_refused(probe: Probe, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        probe(**WRONG[rule])


def test_weights_of_another_shape_are_refused_before_the_run(probe: Probe, imported: Path) -> None:
    with pytest.raises(ConfigError, match="The weights do not fit Model"):
        probe(**{"+rivals.other.weights": str(imported), "settings.width": 16})
