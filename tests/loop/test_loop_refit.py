"""Labels come back: once a run is over the champion's procedure is repeated with those of dev and gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import flywheel
from flywheel.errors import ConfigError, DataError, ExitCode, RunError
from flywheel.export.verification import verify_bundle
from flywheel.lineage.status import read_state
from flywheel.testing.moons.task import Moons
from tests.support.harness import PROBE_CONF, artifacts, events
from tests.support.loop_runs import Probe, quick_folder, run_probe, signal_at, statuses, table_of

REFIT = {"refit": True}
LOSES = {"+gate.promote": False}
SECOND_LOSES = {"gate._target_": f"{__name__}.PromotesOnce"}


class PromotesOnce:
    """A gate that promotes the first candidate only."""

    carry_kept = "always"

    def test(self, evidence: Any, level: float, carry: Any, key: Any) -> Any:
        looks = carry.get("looks", 0)
        return flywheel.records.GateResult("by turn", p_value=min(looks, 1)), {"looks": looks + 1}


class WithoutSamplesOf(Moons):
    """A task that does not say how items become samples."""

    samples_of = property()  # as if it had none


class OtherColumns(Moons):
    """A task that forgets the labels."""

    def samples_of(self, items: Any) -> Any:
        return super().samples_of(items).drop(["label"])


@pytest.fixture(scope="module")
def whole() -> Any:
    """A run of two turns, the first promoted, and its refit. To be read only."""
    with quick_folder() as folder:
        yield run_probe(folder, **REFIT, **SECOND_LOSES)


@pytest.fixture
def copy(whole: flywheel.Run, folder: Path) -> flywheel.Run:
    """The same, to be changed."""
    path = Path(shutil.copytree(whole.path, folder / "runs" / "probe" / "run"))
    return flywheel.open_run(path, PROBE_CONF)


def started(run: flywheel.Run) -> list[tuple[Any, ...]]:
    """Generation, parent and, of a refit, the champion of each that began."""
    begun = events(run.path, event="generation_started")
    return [(e["generation"], e["parent"], e["champion"] if "refit" in e else None) for e in begun]


def drawn(view: Any) -> dict[str, int]:
    """Draws of a corpus by origin."""
    counted = view.corpus().group_by("origin").aggregate([("count", "sum")])
    return {row["origin"]: row["count_sum"] for row in counted.to_pylist()}


def test_the_final_is_made_as_the_champion_was(whole: flywheel.Run) -> None:
    assert statuses(whole) == ["promoted", "promoted", "rejected", "final"]
    assert started(whole)[-1] == (3, 0, 1)
    champion, final = whole.champion(), whole.final()
    assert (champion.number, final.number) == (1, 3)
    assert final.record.settings == champion.record.settings
    assert final.record.start == champion.record.start
    stages = ["labels", "curate", "train"]
    assert [e["stage"] for e in events(whole.path, event="stage", generation=3)] == [*stages, "sealed"]
    carries = [view.record.output("curate", "carry") for view in (champion, final)]
    assert carries[0] == carries[1]  # what the curator knew when the champion was made
    assert final.load() is not None


def test_it_may_have_settings_of_its_own(probe: Probe) -> None:
    own = {"steps": 7, "threshold": 0.99}
    run = probe(generations=1, **REFIT, **{f"+refit_settings.{key}": own[key] for key in own})
    champion, final = run.champion().record, run.final().record
    assert final.settings == champion.settings | own
    assert (champion.settings["steps"], final.train.facts.steps) == (20, 7)
    dropped = [record.curate.facts.by_reason["below threshold"] for record in (champion, final)]
    assert dropped[0] < dropped[1]  # the curator has them, too
    assert "as generation 1, steps=7, threshold=0.99, with 160 more labels" in final.reason
    assert run.reproduce("final").equal
    forked = fork(run, "final", name="of-final", generations=1, **{"task.seed_value": 9})
    assert forked.generation(1).record.settings == champion.settings  # they end with it


def test_others_given_later_change_only_what_is_not_done_yet(probe: Probe) -> None:
    first, other = (
        {"+refit_settings.steps": n, "+refit_settings.threshold": t} for n, t in ((7, 0.99), (9, 0))
    )
    cut = probe(generations=1, **REFIT, **first, **signal_at(stage="curate", generation=2))
    assert cut.exit_code is ExitCode.STOPPED
    curated = cut.generation(2).record.output("curate", "decisions")
    run = cut.resume({key.lstrip("+"): value for key, value in other.items()})
    assert run.final().record.output("curate", "decisions") == curated
    assert run.final().record.train.facts.steps == 9
    before = events(run.path)
    assert run.resume({"refit_settings.steps": 11}).exit_code is ExitCode.FINISHED
    assert events(run.path) == before  # there is a final


def test_the_labels_of_dev_and_gate_are_human_samples_of_their_suites(whole: flywheel.Run) -> None:
    labels = table_of(whole, 3, "labels", "samples")
    assert {(row["origin"], row["source"]) for row in labels.select(["origin", "source"]).to_pylist()} == {
        ("human", "suite dev"),
        ("human", "suite gate"),
    }
    ids = whole.final().corpus()["id"]
    assert pc.all(pc.is_in(labels["id"], value_set=ids.combine_chunks())).as_py()
    before = whole.champion().corpus()["id"]
    assert pc.all(pc.is_in(before, value_set=ids.combine_chunks())).as_py()


def test_human_rows_keep_their_share_of_what_is_drawn(whole: flywheel.Run) -> None:
    before, after = drawn(whole.champion()), drawn(whole.final())
    assert after["human"] == before["human"] + 160
    assert after["generated"] / after["human"] == pytest.approx(
        before["generated"] / before["human"], rel=1 / after["human"]
    )


def test_one_opening_shows_the_champion_and_the_final(whole: flywheel.Run) -> None:
    assert [e["generation"] for e in events(whole.path, event="look", role="sealed")] == [1]
    assert [e["generation"] for e in events(whole.path, stage="sealed")] == [0, 1, 3]
    status = whole.status()
    assert status.champion is not None
    assert status.final is not None
    assert (status.champion.generation, status.final.generation) == (1, 3)
    measured = {g.generation: g.metrics for g in status.generations}
    assert status.final.metrics == {"sealed": measured[3]["sealed"]}
    assert status.final.champion_metrics == {"sealed": measured[1]["sealed"]}
    assert "accuracy on sealed" in str(status.final)
    assert measured[3].keys() == {"sealed"}  # on what it was trained on it is not measured
    assert whole.verify().first_bad is None


def test_it_is_made_once(copy: flywheel.Run) -> None:
    before = events(copy.path)
    assert copy.resume({}).exit_code is ExitCode.FINISHED
    assert events(copy.path) == before


def test_it_is_neither_parent_nor_start_nor_opponent(copy: flywheel.Run) -> None:
    run = copy.resume({"generations": 3, "seal": "reopen"})
    assert started(run)[-1] == (4, 1, None)
    assert run.generation(4).record.carry_before.left_by["gate"] == 2
    assert run.final().number == 3
    for edge in run.lineage().generations[4].edges:
        assert getattr(edge, "generation", None) != 3


def test_a_new_champion_has_a_refit_of_its_own(probe: Probe) -> None:
    run = probe(generations=1, **REFIT)
    assert (run.champion().number, run.final().number) == (1, 2)
    run = run.resume({"generations": 2, "seal": "reopen"})
    assert started(run)[-2:] == [(3, 1, None), (4, 1, 3)]
    assert (run.champion().number, run.final().number) == (3, 4)
    run.rollback(1, why="a test")
    assert run.final().number == 2


def test_a_run_that_is_over_is_refitted_later_but_not_unseen(probe: Probe) -> None:
    run = probe(generations=1, seal="keep", **LOSES)
    with pytest.raises(RunError, match=r"seal=reopen"):
        run.resume(REFIT)
    with pytest.raises(RunError, match=r"no final.*refit=true"):
        run.final()
    run = run.resume({**REFIT, "seal": "reopen"})
    assert started(run)[-1] == (2, None, 0)  # the genesis is the champion
    assert run.final().record.settings == run.generation(0).record.settings
    assert run.status().sealed_openings == 2


def test_a_champion_that_nobody_trained_has_no_procedure(probe: Probe) -> None:
    run = probe(generations=1, genesis="fresh", **REFIT, **LOSES)
    assert (run.exit_code, statuses(run)) == (ExitCode.FINISHED, ["promoted", "rejected"])


@pytest.mark.parametrize(
    ("task", "why"),
    [(WithoutSamplesOf, r"no samples_of\(items\).*refit=false"), (OtherColumns, r"suite dev.*'label'")],
)
def test_a_task_that_cannot_is_refused_before_anything_is_trained(
    probe: Probe, folder: Path, task: type, why: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=why):
        probe(**REFIT, task___target_=f"{__name__}.{task.__name__}")
    assert not list(folder.glob("runs/*/*/ledger.jsonl"))


def test_a_refit_that_was_cut_off_ends_as_it_would_have(whole: flywheel.Run, probe: Probe) -> None:
    for stage in ("labels", "train"):
        cut = probe(**REFIT, **SECOND_LOSES, **signal_at(stage=stage, generation=3))
        assert cut.exit_code is ExitCode.STOPPED, stage
    run = probe(**REFIT, **SECOND_LOSES)
    assert run.exit_code is ExitCode.FINISHED
    assert artifacts(run.path) == artifacts(whole.path)


def test_a_refit_that_fails_is_tried_again_and_counts_as_no_turn(probe: Probe, fault: Any) -> None:
    run = probe(generations=1)
    fault("train:raise")
    run = run.resume({**REFIT, "seal": "reopen"})
    assert (run.exit_code, statuses(run)[-1]) == (ExitCode.FAILED, "failed")
    assert read_state(run.path).turns_without_promotion == 0
    fault("")
    run = run.resume({})
    assert statuses(run) == ["promoted", "promoted", "failed", "final"]


def test_with_failures_passed_over_it_is_not(probe: Probe, fault: Any) -> None:
    run = probe(generations=1)
    fault("train:raise")
    run = run.resume({**REFIT, "seal": "reopen", "on_failure": "go_on"})
    assert (run.exit_code, statuses(run)[-1]) == (ExitCode.FINISHED, "failed")


def test_a_flaw_in_the_champions_data_reaches_it(copy: flywheel.Run) -> None:
    report = copy.recall(where="made_in = 1", why="a test", yes=True)
    assert {reached.generation for reached in report.generations} >= {1, 3}
    assert copy.generation(3).record.recalled
    with pytest.raises(RunError, match="no final"):
        copy.final()


def test_a_flawed_champion_takes_it_along(copy: flywheel.Run) -> None:
    report = copy.recall(generation="champion", why="a test", yes=True)
    assert 3 in {reached.generation for reached in report.generations}


def test_a_flaw_in_the_labels_reaches_it_alone(copy: flywheel.Run) -> None:
    report = copy.recall(where="source = 'suite gate'", why="wrong labels", yes=True)
    assert [reached.generation for reached in report.generations] == [3]
    run = copy.resume({"seal": "reopen"})  # without those labels
    assert (run.champion().number, run.final().number) == (1, 4)
    assert drawn(run.final())["human"] == drawn(run.champion())["human"] + 80


def test_its_weights_stay(copy: flywheel.Run) -> None:
    copy.prune(last=0, yes=True)
    assert copy.final().file.exists()
    assert copy.reproduce("final").equal


def test_it_is_handed_over_with_what_the_sealed_suites_say(copy: flywheel.Run, folder: Path) -> None:
    out = copy.bundle("final", folder / "out")
    assert not verify_bundle(out, run=copy.path).problems
    card = (out / "README.md").read_text()
    assert "Beside its champion" in card
    assert "no gate or guard could judge it" in card
    lines = [json.loads(line) for line in (out / "lineage.jsonl").read_text().splitlines()]
    assert {line["generation"] for line in lines if line["event"] == "generation_started"} == {0, 1, 3}
    shown = copy.show("final")
    assert (shown.refit_of, shown.status) == (1, "final")
    assert str(shown.final) in card


def fork(run: flywheel.Run, which: Any, **more: Any) -> flywheel.Run:
    own = {"generations": 0, "log": "quiet", "seal": "reopen", **more}
    return run.fork(which, [f"{key}={value}" for key, value in own.items()])


def test_a_fork_of_it_needs_fresh_items(copy: flywheel.Run) -> None:
    with pytest.raises(ConfigError, match=r"160 problems.*other items, or fork its champion"):
        fork(copy, "final", name="fork")
    assert fork(copy, "champion", name="of-champion").exit_code is ExitCode.FINISHED
    fresh = fork(copy, "final", name="fresh", **{"task.seed_value": 9})
    assert fresh.exit_code is ExitCode.FINISHED
    with pytest.raises(ConfigError, match=r"160 problems.*generation 3 of"):
        fork(fresh, 0, name="back", **{"task.seed_value": 0})
