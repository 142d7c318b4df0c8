"""Recall and rollback: nothing flawed is learned from again, and nothing that learned from it is champion."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.cli.commands.recall import lines
from flywheel.errors import ConfigError, LockedError, RunError
from flywheel.lineage.recall import recall, rollback
from flywheel.lineage.status import read_state, status
from flywheel.storage import files, ledger, lock
from flywheel.storage.pruning import prune
from flywheel.storage.state import Status
from flywheel.storage.store import Store
from flywheel.storage.verify import verify
from tests.support.events import lines_of
from tests.support.fake_stages import play
from tests.support.loop_runs import quick_folder

pytestmark = pytest.mark.usefixtures("fakes")


class Oracle:
    """Who descends from whom, sample by sample, from the plain artifacts."""

    def __init__(self, directory: Path) -> None:
        store, self.state = Store(directory), read_state(directory)
        recalled = self.state.recalled
        self.recalled_ids = set(store.table(recalled)["id"].to_pylist()) if recalled else set()
        self.maker: dict[str, int | None] = {}
        self.corpora: dict[int, set[str]] = {}
        for g in self.state.generations:
            for stage in ("seed", "generate"):
                batch = g.output(stage, "samples")
                for name in store.table(batch)["id"].to_pylist() if batch else []:
                    self.maker[name] = g.parent if stage == "generate" else None
            corpus = g.output("curate", "corpus")
            self.corpora[g.number] = set(store.table(corpus)["id"].to_pylist()) if corpus else set()

    def ancestors(self, number: int) -> tuple[set[int], set[str]]:
        """All generations and samples that a generation learned from, itself included."""
        generations, samples, todo = set[int](), set[str](), [number]
        while todo:
            at = todo.pop()
            if at in generations:
                continue
            generations.add(at)
            samples |= self.corpora[at]
            g = self.state.generations[at]
            todo += [self.maker[name] for name in self.corpora[at] if self.maker[name] is not None]
            todo += [g.parent] if g.init == "parent" and g.parent is not None else []
        return generations, samples

    def is_clean(self, number: int) -> bool:
        generations, samples = self.ancestors(number)
        flags = {g.number for g in self.state.generations if g.recalled}
        return not generations & flags and not samples & self.recalled_ids


def check_all(directory: Path) -> None:
    oracle = Oracle(directory)
    assert verify(directory).first_bad is None
    champion = oracle.state.champion
    assert champion is None or (oracle.is_clean(champion.number) and champion.status is Status.PROMOTED)
    for generation in oracle.state.generations:
        if generation.weights and not generation.recalled:
            assert oracle.is_clean(generation.number), generation.number
    for name, maker in oracle.maker.items():
        if maker is not None and oracle.state.generations[maker].recalled:
            assert name in oracle.recalled_ids


FLAW = st.one_of(
    st.tuples(st.just("generation"), st.integers(0, 30)),
    st.tuples(st.just("human"), st.integers(0, 3)),
    st.tuples(st.just("made"), st.integers(0, 2), st.integers(1, 30)),
)
STEP = st.tuples(st.integers(1, 3), st.integers(1, 40), FLAW, st.booleans(), st.booleans())


def flawed(step: Any, turns: int) -> dict[str, Any]:
    """A flaw as the arguments of ``recall``, in a run of so many turns."""
    kind, *where = step
    if kind == "generation":
        return {"generation": where[0] % turns}
    if kind == "human":
        return {"where": f"origin = 'human' and prompt = 'h{where[0]}'"}
    return {"where": f"prompt = 'p{where[0]}' and made_in = {where[1] % turns}"}


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), steps=st.lists(STEP, min_size=1, max_size=4))
def test_what_is_recalled_is_never_learned_from_again(seed: int, steps: list[Any]) -> None:
    with quick_folder() as folder:
        run, generations = folder / "fake" / "run", 0
        for more, stages, flaw, strict, cut_short in steps:
            generations += more
            play(run, generations, seed=seed, stages=stages if cut_short else None)
            before = len(read_state(run).generations)
            if before == 0:
                continue
            report = recall(run, why="a test", strict=strict, yes=True, **flawed(flaw, before)).json()
            named = {g["generation"] for g in report["generations"]}
            if strict and report["done"]:
                assert not report["suspect"]
            check_all(run)
            ids = Oracle(run).recalled_ids
            play(run, generations, seed=seed)
            check_all(run)
            oracle = Oracle(run)
            later = [n for n in oracle.corpora if n >= before]
            assert all(not oracle.corpora[n] & ids for n in later)
            assert not any(oracle.state.generations[n].status is Status.UNFINISHED for n in named)


def test_a_recalled_generation_is_made_up_for(run: Path) -> None:
    play(run, 4)
    recall(run, generation=2, why="flawed", yes=True)
    assert (status(run).state, status(run).reason) == ("stopped", "recalled: flawed")
    play(run, 4)
    state = read_state(run)
    assert sum(not g.recalled for g in state.generations) == 5
    assert status(run).json()["state"] == "finished"


@pytest.mark.parametrize(("stages", "but"), [(20, ""), (None, ", with seal=reopen")])
def test_how_to_go_on_is_said(run: Path, stages: int | None, but: str) -> None:
    play(run, 4, stages=stages)
    told = list(lines(recall(run, generation=1, why="flawed", yes=True)))
    assert told[-1].startswith(f"Nothing was deleted. The same command as before{but}")
    assert told[-1].endswith("goes on from the champion.")
    assert ("reopen" in told[-1]) == bool(but)


def promoted(run: Path) -> list[int]:
    """The numbers of the generations that were promoted, in order."""
    return [g.number for g in read_state(run).generations if g.status is Status.PROMOTED]


def test_a_dry_run_records_nothing(run: Path) -> None:
    play(run, 3)
    before = (run / "ledger.jsonl").read_bytes()
    dry = recall(run, generation=1, why="flawed").json()
    assert (run / "ledger.jsonl").read_bytes() == before
    assert not dry["done"]
    done = recall(run, generation=1, why="flawed", yes=True).json()
    assert done == dry | {"done": True}
    assert json.loads(json.dumps(done)) == done


def test_the_event_says_it_all(run: Path) -> None:
    play(run, 3)
    report = recall(run, generation=1, why="flawed", yes=True).json()
    event = lines_of(run)[-1]
    assert (event["event"], event["why"], event["by"]) == ("recalled", "flawed", "generation 1")
    assert event["generations"] == [g["generation"] for g in report["generations"]]
    assert event["champion"] == report["champion"]["after"]
    assert len(Store(run).table(event["samples"])) == report["samples"]["total"]


def test_the_same_recall_again_is_nothing_to_do(run: Path) -> None:
    play(run, 3)
    recall(run, generation=1, why="flawed", yes=True)
    before = (run / "ledger.jsonl").read_bytes()
    again = recall(run, generation=1, why="flawed", yes=True).json()
    assert (again["done"], again["generations"], again["samples"]["total"]) == (False, [], 0)
    assert (run / "ledger.jsonl").read_bytes() == before


def test_if_no_generation_is_clean_the_next_is_a_genesis_on_the_remaining_samples(run: Path) -> None:
    play(run, 2)
    condition = "origin = 'human' and prompt in ('h0', 'h1', 'h2')"
    report = recall(run, where=condition, why="mislabelled", strict=True, yes=True).json()
    assert report["champion"]["after"] is None
    assert read_state(run).carries.artifacts == {}
    play(run, 2)
    oracle = Oracle(run)
    genesis = oracle.state.generations[3]
    assert genesis.is_genesis
    assert len(oracle.corpora[3]) == 1
    assert oracle.state.first_champion is genesis


def test_if_every_human_sample_is_recalled_the_next_genesis_fails_with_the_reason(run: Path) -> None:
    play(run, 1)
    recall(run, where="origin = 'human'", why="all wrong", yes=True)
    play(run, 1)
    last = read_state(run).generations[-1]
    assert last.status is Status.FAILED
    assert "all samples of its sources are recalled" in last.reason


def test_a_generation_under_way_that_descends_from_the_flaw_ends_as_failed(run: Path) -> None:
    play(run, 3, stages=5 + 2)  # genesis is five stages long
    state = read_state(run)
    assert state.current
    assert recall(run, generation=0, why="flawed", yes=True).json()["ends"] == 1
    ended = read_state(run).generations[1]
    assert (ended.status, ended.reason, ended.recalled) == (Status.FAILED, "recalled: flawed", True)
    assert play(run, 3) == 0
    check_all(run)


def test_a_generation_under_way_that_does_not_goes_on_with_what_remains(run: Path) -> None:
    play(run, 1, stages=5 + 2)
    report = recall(run, where="made_in = 1 and prompt = 'p1'", why="odd", yes=True).json()
    assert (report["ends"], report["generations"], report["samples"]["total"]) == (None, [], 1)
    play(run, 1)
    state = read_state(run)
    assert len(state.generations) == 2
    decided = Store(run).table(state.generations[1].output("curate", "decisions"))
    assert len(decided) == 4 + 3 - 1
    assert state.generations[1].curate.inputs["recalled"] == state.recalled


def test_the_carry_is_what_the_restored_champion_left(run: Path) -> None:
    play(run, 6)
    before, numbers = read_state(run), promoted(run)
    report = recall(run, generation=numbers[-1], why="flawed", yes=True)
    after = read_state(run)
    assert after.champion.number == report.champion.after == numbers[-2]
    assert after.carries == before.generations[numbers[-2]].carry_after != before.carries


def test_strict_recalls_what_is_only_suspect(run: Path) -> None:
    play(run, 6, seed=1)
    for number in range(7):
        loose = recall(run, generation=number, why="flawed").json()
        strict = recall(run, generation=number, why="flawed", strict=True).json()
        reached = {g["generation"] for g in [*loose["generations"], *loose["suspect"]]}
        assert reached <= {g["generation"] for g in strict["generations"]}
        assert strict["suspect"] == []
    assert any(recall(run, generation=n, why="flawed").json()["suspect"] for n in range(7))


def test_suspicion_is_a_flag_and_is_passed_on(run: Path) -> None:
    play(run, 6, seed=1)
    number = next(n for n in range(7) if recall(run, generation=n, why="flawed").json()["suspect"])
    report = recall(run, generation=number, why="flawed", yes=True).json()
    play(run, 8, seed=1)
    state = read_state(run)
    assert {g["generation"] for g in report["suspect"]} <= {g.number for g in state.generations if g.suspect}
    for g in state.generations:
        if g.number > 6 and g.parent is not None and state.generations[g.parent].suspect:
            assert g.suspect
    flags = [(g["recalled"], g["suspect"]) for g in status(run).json()["generations"]]
    assert flags == [(g.recalled, g.suspect) for g in state.generations]


def test_a_rollback_sets_the_champion_back_without_blame(run: Path) -> None:
    play(run, 6)
    *_, former, newest = promoted(run)
    report = rollback(run, former, "too slow in production")
    assert (report.champion.before, report.champion.after) == (newest, former)
    after = read_state(run)
    assert after.champion.number == former
    assert after.carries == after.champion.carry_after
    assert not any(g.recalled or g.suspect for g in after.generations)
    assert status(run).json()["state"] == "stopped"
    play(run, 7)
    generations = read_state(run).generations
    assert (len(generations), generations[7].parent) == (8, former)
    check_all(run)


def test_a_rollback_ends_what_was_under_way(run: Path) -> None:
    play(run, 6)
    play(run, 8, stages=3)
    rollback(run, promoted(run)[0], "no")
    last = read_state(run).generations[-1]
    assert (last.status, last.reason) == (Status.FAILED, "rolled back: no")


@pytest.mark.parametrize("kind", ["rejected", "recalled", "champion", "unknown"])
def test_what_cannot_be_rolled_back_to_is_refused(run: Path, kind: str) -> None:
    play(run, 6)
    state = read_state(run)
    chosen = {
        "rejected": next(g.number for g in state.generations if g.status is Status.REJECTED),
        "recalled": state.champion.number,
        "champion": state.champion.number,
        "unknown": 99,
    }[kind]
    if kind == "recalled":
        recall(run, generation=chosen, why="flawed", yes=True)
    before = (run / "ledger.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"promoted|changes the champion|champion, last or final; got 99"):
        rollback(run, chosen, "no")
    assert (run / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "condition",
    [
        "nope = 1",
        "",
        "1 = 1; drop table samples",
        "true) union select 'x' from (select 1",
        "true limit 1",
        "id in (select content from read_text('/etc/hostname'))",
        "count(*) > 1",
    ],
)
def test_a_condition_that_is_no_expression_on_samples_is_refused(run: Path, condition: str) -> None:
    play(run, 1)
    with pytest.raises(ConfigError, match="must be an SQL expression on the columns id, origin"):
        recall(run, where=condition, why="flawed")


def test_a_recall_names_one_flaw_and_says_why(run: Path) -> None:
    play(run, 1)
    with pytest.raises(ConfigError, match="names one flaw"):
        recall(run, why="flawed")
    with pytest.raises(ConfigError, match="says why"):
        recall(run, generation=1, why=" ")
    with pytest.raises(RunError, match="champion, last or final; got 9"):
        recall(run, generation=9, why="flawed")


def test_a_run_that_is_being_written_is_not_recalled(run: Path) -> None:
    play(run, 1)
    lock.acquire(run)
    try:
        with pytest.raises(LockedError):
            recall(run, generation=1, why="flawed", yes=True)
    finally:
        lock.release(run)


def test_patience_starts_anew_from_the_restored_champion(run: Path) -> None:
    play(run, 8, patience=2, seed=1)
    assert read_state(run).turns_without_promotion == 2
    recall(run, generation="last", why="flawed", yes=True)
    assert read_state(run).turns_without_promotion == 1


def test_a_condition_on_what_was_pruned_says_which_batches_it_could_not_ask(run: Path) -> None:
    play(run, 8)
    condition = "prompt = 'p0' and made_in = 1"
    whole = recall(run, where=condition, why="flawed").json()
    assert whole["samples"]["total"]
    assert not whole["unasked"]
    dropped = {d.generation for d in prune(run, last=0, yes=True).drops if d.kind == "samples"}
    report = recall(run, where=condition, why="flawed")
    assert report.unasked == tuple(sorted(dropped))
    assert any("not asked    the samples made in 1:" in line for line in lines(report)) == (1 in dropped)
    assert recall(run, where="made_in = 1", why="flawed").json()["unasked"] == []


def test_a_rollback_to_pruned_weights_is_refused_before_anything_is_ended(run: Path) -> None:
    play(run, 8)
    state = read_state(run)
    prune(run, last=0, yes=True)
    gone = next(g.number for g in state.generations if g.weights in read_state(run).pruned)
    before = (run / "ledger.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"pruned|rejected") as refused:
        rollback(run, gone, "no")
    assert f" {gone}," not in str(refused.value).partition("Those that fit:")[2]
    assert (run / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("change", ["recall", "rollback"])
def test_a_line_that_is_written_has_happened_though_head_could_not_be_moved(
    run: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A full disk may have room for the line, in the ledger's last block, and none for HEAD."""
    play(run, 6)
    *_, former, newest = promoted(run)
    real = files.write_atomic

    def full(path: Path, *content: Any) -> None:
        if path.name == "HEAD":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, *content)

    monkeypatch.setattr(files, "write_atomic", full)
    if change == "recall":
        assert recall(run, generation=newest, why="flawed", yes=True).done
    else:
        assert rollback(run, former, "slow").champion.after == former
    monkeypatch.undo()
    assert read_state(run).champion.number == former
    assert play(run, 7) == 0
    assert verify(run).first_bad is None
    said = [event.event for event in ledger.read(run)]
    assert said.count("recalled") + said.count("rolled_back") == 1


def test_a_recall_that_finds_no_room_for_its_line_uses_the_reserve(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(run, 3)
    real = files.append

    def full(descriptor: int, line: bytes) -> None:
        if (run / ".reserve").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, line)

    monkeypatch.setattr(files, "append", full)
    assert recall(run, generation=1, why="flawed", yes=True).json()["done"]
    assert read_state(run).generations[1].recalled
