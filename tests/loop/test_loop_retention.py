"""Pruning real runs: they go on to the same end, and what is left answers."""

from __future__ import annotations

import pytest

import flywheel
from flywheel.errors import ConfigError, Interrupted, LockedError, PrunedError
from flywheel.lineage.status import read_state
from flywheel.storage import ledger, lock, pruning, slim
from flywheel.storage.state import Status
from flywheel.storage.store import Store
from flywheel.testing import CONFIG_DIR
from tests.support.harness import artifacts, champion_hash, events, kinds
from tests.support.loop_runs import run_moons

KEEP = {"retention": {"last": 1}}
REJECT = {"+gate.promote": False}


def files(run):
    """Names of the objects that are on disk."""
    return {path.parent.name + path.name for path in (run.path / "objects").rglob("*") if path.is_file()}


def gone(run):
    return {name for event in events(run.path) if event["event"] == "pruned" for name in event["objects"]}


@pytest.fixture
def whole(folder):
    """The run of three promotions that nothing was dropped from."""
    from tests.support.loop_runs import run_probe

    return run_probe(folder / "whole", generations=3)


def test_a_run_under_a_policy_ends_as_one_without(probe, whole):
    run = probe(generations=3, **KEEP)
    assert artifacts(run.path) == artifacts(whole.path)
    assert gone(run)
    assert files(run) & gone(run) == set()
    assert run.verify().first_bad is None


def test_the_weights_of_a_candidate_go_also_where_it_started_from_a_trial(tmp_path):
    """Of generations that stay champions to go back to what their turns draw on would be missing."""
    tuned = {"tuner": "random", "tuner.trials": 2, "tuner.fidelity": 0.5, "tuner.start": "trial"}
    always = {
        "tuner.margin": 0.0,
        "tuner.least_gain": 0.0,
        "promotion": "greedy",
        "settings.steps": 10,
        "task.unlabelled": 600,
    }
    space = {"tune.space": {"lr": {"low": 0.002, "high": 0.05, "log": True}}, "settings.lr": 0.004}
    run = run_moons(tmp_path, generations=7, **tuned, **always, **space)
    trials = {g.record.output("tune", "weights") for g in run.generations()} - {None}
    assert trials, "some candidate started from one"
    pruning.prune(run.path, last=0, yes=True)
    state = read_state(run.path)
    champion = state.champion
    assert sum(g.status is Status.PROMOTED for g in state.generations) > 3
    assert {g.number for g in state.generations if state.can_be_champion(g)} == {
        0,
        champion.parent,
        champion.number,
    }
    assert not pruning.prune(run.path, last=0).drops
    assert run.verify().first_bad is None


def test_what_was_pruned_is_answered_from_what_stays_of_it(probe, whole):
    pytest.importorskip("duckdb", reason='pip install -e ".[query]" brings it')
    run = probe(generations=3, **KEEP)
    asked = [
        "SELECT id, origin, made_in, made_by, source, keep, reason, count FROM samples ORDER BY ALL",
        "SELECT * FROM edges ORDER BY ALL",
        """SELECT d.* FROM decisions d JOIN samples s ON s.id = d.id
           WHERE s.made_in = d.generation AND s.made_in > 0 ORDER BY ALL""",
    ]
    for sql in asked:
        assert run.query(sql) == whole.query(sql)
    assert run.show(1).json()["data"] == whole.show(1).json()["data"]
    assert run.diff(1, 3).json()["data"] == whole.diff(1, 3).json()["data"]


@pytest.mark.parametrize("point", ["plan_removal", "delete"])
def test_a_pruning_that_was_cut_off_is_ended_by_the_resumed_run(probe, whole, monkeypatch, point):
    """Before the event `pruned` nothing is lost; after it the files that are left are deleted."""

    def killed(*_, **__):
        raise Interrupted("a kill")

    module = {"plan_removal": slim, "delete": pruning}[point]
    original = getattr(module, point)
    calls = iter(range(9))
    if point == "delete":  # the first call ends what an earlier session left
        monkeypatch.setattr(module, point, lambda *a: original(*a) if next(calls) == 0 else killed())
    else:
        monkeypatch.setattr(module, point, killed)
    cut = probe(generations=3, **KEEP)
    assert cut.status().json()["state"] == "interrupted"
    assert bool(gone(cut) & files(cut)) == (point == "delete")
    assert cut.verify().first_bad is None
    monkeypatch.undo()
    run = probe(generations=3, **KEEP)
    assert artifacts(run.path) == artifacts(whole.path)
    assert gone(run)
    assert files(run) & gone(run) == set()


def test_a_prune_that_was_cut_off_is_ended_by_the_next(after_genesis, monkeypatch):
    run = after_genesis(generations=3)
    calls = iter(range(9))
    original = pruning.delete
    monkeypatch.setattr(pruning, "delete", lambda *a: original(*a) if next(calls) == 0 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.prune(last=0, yes=True)
    assert gone(run) <= files(run)
    monkeypatch.undo()
    run.prune(last=0, yes=True)
    assert gone(run) & files(run) == set()
    assert run.verify().first_bad is None


def test_verify_reads_again_what_was_pruned_while_it_read(after_genesis, monkeypatch):
    run = after_genesis(generations=3)
    inspect = ledger.inspect
    before = inspect(run.path)
    run.prune(last=0, yes=True)
    answers = iter([before])
    monkeypatch.setattr(ledger, "inspect", lambda *a: next(answers, None) or inspect(*a))
    assert run.verify().first_bad is None


@pytest.mark.parametrize("given", [{}, REJECT], ids=["promoted", "rejected"])
def test_a_pruned_run_goes_on_as_if_it_were_not(probe, folder, given):
    from tests.support.loop_runs import run_probe

    whole = run_probe(folder / "whole", generations=3, **given)
    done = probe(generations=2, **given).prune(last=0, yes=True)
    assert done.drops
    run = probe(generations=3, **given)
    assert champion_hash(run.path) == champion_hash(whole.path)
    made = artifacts(run.path)
    assert [m for m in artifacts(whole.path) if m[1] != "sealed"] == [m for m in made if m[1] != "sealed"]
    assert run.verify().first_bad is None


def test_a_dry_run_changes_nothing(after_genesis):
    run = after_genesis(generations=2)
    before = events(run.path), files(run)
    dry = run.prune(last=0)
    assert (events(run.path), files(run)) == before
    assert dry.json()["bytes"] == run.du().json()["prunable"]["--last 0"] > 0
    done = run.prune(last=0, yes=True)
    assert done.json() == {**dry.json(), "done": True}
    assert run.du().json()["pruned"] == done.freed == sum(done.bytes.values()) - sum(done.slim_bytes.values())
    assert run.prune(last=0, yes=True).drops == []
    assert kinds(run.path)[-1] == "pruned"


def test_what_was_dropped_says_so(after_genesis):
    run = after_genesis(generations=3)
    before = run.samples(1)
    run.prune(last=0, yes=True)
    view = run.generation(1)
    for ask in (view.load, lambda: view.file, lambda: run.reproduce(1)):
        with pytest.raises(PrunedError, match=r"was dropped on 2.*, to keep only what"):
            ask()
    after = run.samples(1)
    assert after.column_names == [*slim.SLIM, "keep", "reason", "weight", "count"]
    assert after.equals(before.select(after.column_names))


def test_a_batch_that_the_next_corpus_may_draw_on_stays_and_its_decisions_are_slim(probe):
    run = probe(generations=2, **REJECT)
    before = run.samples(1)
    dropped = {(drop.kind, drop.generation) for drop in run.prune(last=0, yes=True).drops}
    assert dropped == {("weights", 1), ("decisions", 1), ("weights", 2), ("decisions", 2)}
    assert run.samples(1).equals(before)


def test_dropped_weights_can_be_made_again(probe):
    run = probe(generations=1, **REJECT)
    run.prune(last=0, yes=True)
    assert run.reproduce(1).weights_equal


def test_a_pruned_object_that_is_there_must_still_match(probe):
    run = probe(generations=1, **REJECT)
    name = run.generation(1).weights
    data = Store(run.path).get(name)
    run.prune(last=0, yes=True)
    path = Store(run.path).path(name)
    path.write_bytes(data)
    assert run.verify().first_bad is None
    path.write_bytes(data[:-1])
    assert "does not match its hash" in run.verify().first_bad


def test_files_that_no_event_names_are_told_and_removed(after_genesis):
    run = after_genesis(generations=1)
    (run.path / "objects" / "ab").mkdir(exist_ok=True)
    lost = run.path / "objects" / "ab" / f".{'c' * 62}.json.17.tmp"
    lost.write_bytes(b"half")
    assert run.du().json()["orphans"] == {"files": 1, "bytes": 4}
    assert run.prune(promoted=True).orphans == {str(lost.relative_to(run.path)): 4}
    assert lost.exists()
    run.prune(promoted=True, yes=True)
    assert run.du().json()["orphans"] == {"files": 0, "bytes": 0}


def test_du_counts_every_file_once(uninterrupted):
    found = uninterrupted.du().json()
    on_disk = sum(path.stat().st_size for path in uninterrupted.path.rglob("*") if path.is_file())
    assert found["bytes"] == sum(found["by_kind"].values()) == on_disk
    assert {"weights", "samples", "scores", "decisions", "outcomes", "carries", "ledger"} <= set(
        found["by_kind"]
    )
    assert set(found["by_generation"]) == {"0", "1", "2"}


def test_a_run_that_is_written_is_not_pruned(after_genesis):
    run = after_genesis(generations=1)
    lock.acquire(run.path)
    try:
        with pytest.raises(LockedError):
            run.prune(last=0, yes=True)
    finally:
        lock.release(run.path)


def test_what_to_keep_must_be_said(uninterrupted):
    with pytest.raises(ConfigError, match=r"What to keep must be said: all champions \(promoted\)"):
        uninterrupted.prune()
    with pytest.raises(ConfigError, match="0 or more generations, got -1"):
        uninterrupted.prune(last=-1)
    with pytest.raises(ConfigError, match=r"retention\.last"):
        flywheel.run({"recipe": "moons", "retention": {"last": "best"}}, config_dir=CONFIG_DIR)
