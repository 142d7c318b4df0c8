"""SIGKILL at unit 60 of 100 in evaluate, generate and grade: only what was not durable is made again."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import flywheel
from tests.support.harness import PROBE, artifacts, events, kinds, only_run, shared_fork_server
from tests.support.loop_runs import quick_folder, signal_at
from tests.support.ranks import free_port, run_ranks

WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "chunk_size=2", "log=quiet")
WORDS = (*WORDS, "+task.unlabelled=200", "+task.items=100")
KILLS = ("evaluate gate-20", "generate unlabelled-120", "grade unlabelled-120")
"""The first rows of units 60: an evaluation has 50 units of dev before those of the gate."""
GATE = sorted(f"gate-{row}" for row in range(20, 100, 2))
PROMPTS = sorted(f"unlabelled-{row}" for row in range(120, 200, 2))
MISSING = {"evaluate": GATE, "generate": PROMPTS, "grade": PROMPTS}
"""The units that are left."""
COMPARED = ((0, "evaluate"), (1, "generate"), (1, "grade"))


@pytest.fixture(scope="module")
def calm() -> Iterator[Path]:
    """A run that was left alone, on one rank. To be read only."""
    with quick_folder() as folder:
        done = shared_fork_server().run(WORDS, folder)
        assert done.code == 0, done.err
        yield only_run(folder)


def stages(run: Path) -> dict[tuple[int, str], dict]:
    return {(e["generation"], e["stage"]): e for e in events(run) if e["event"] == "stage"}


def units_of(folder: Path, attempt: int, stage: str) -> list[str]:
    """The units that were begun, by their first rows, sorted."""
    lines = (line.split() for line in (folder / "units").read_text().splitlines())
    return sorted(row for number, name, row in lines if (number, name) == (str(attempt), stage))


def on_one_rank(folder: Path, *more: str, **variables: str) -> None:
    for attempt in range(len(KILLS) + 1):
        ours = environment(folder) | {"PROBE_ATTEMPT": str(attempt)} | variables
        done = shared_fork_server().run((*WORDS, *more), folder, env=ours)
        assert done.code == (0 if attempt == len(KILLS) else -signal.SIGKILL), done.err


def on_ranks(folder: Path, count: int) -> None:
    options = ("--standalone", f"--max-restarts={len(KILLS)}")
    done = run_ranks(WORDS, folder, ranks=count, options=options, **environment(folder))
    assert done.code == 0, done.err


def environment(folder: Path, kills: Sequence[str] = KILLS) -> dict[str, str]:
    return {"PROBE_UNITS": str(folder / "units"), "PROBE_KILLS": ",".join(kills), "PROBE_KEEP_EVERY": "0"}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=SLOW), pytest.param(3, marks=SLOW)])
@pytest.mark.timeout(300)
def test_a_stage_that_was_killed_goes_on_with_the_units_that_are_missing(calm, folder, ranks):
    on_one_rank(folder) if ranks == 1 else on_ranks(folder, ranks)
    check_units_begun(folder)
    run = only_run(folder)
    ours, theirs = stages(run), stages(calm)
    for where in COMPARED:
        assert (ours[where]["outputs"], ours[where]["facts"]) == (
            theirs[where]["outputs"],
            theirs[where]["facts"],
        )
        assert ours[where]["facts"]["units"]["count"] == 100
        assert len(json.dumps(ours[where]["facts"]["units"])) < 200, "the ledger does not grow with the units"
    assert not (run / "work").exists()
    assert flywheel.open_run(run).verify().first_bad is None


def check_units_begun(folder: Path) -> None:
    """After each kill only the units from the one that died on were done."""
    for attempt, kill in enumerate(KILLS):
        stage, unit = kill.split()
        assert unit in units_of(folder, attempt, stage)
        assert units_of(folder, attempt + 1, stage) == MISSING[stage], stage


def test_the_answers_of_an_outside_service_are_kept_with_each_unit(calm, folder):
    """Though units are otherwise kept after an hour: each is paid for once."""
    paid = [f"{part}._target_=tests.support.probe_parts.Paid{part.title()}" for part in ("task", "grader")]
    on_one_rank(folder, *paid, PROBE_KEEP_EVERY="3600")
    check_units_begun(folder)
    made = stages(only_run(folder))
    assert [made[w]["outputs"] for w in COMPARED] == [stages(calm)[w]["outputs"] for w in COMPARED]


TRACKERS = signal_at(stage="train", generation=1, within="true") | {
    "+tracker.b._target_": "tests.support.probe_parts.NotesRank"
}


@pytest.mark.timeout(300)
def test_two_ranks_outlive_kills_stop_together_and_make_what_one_makes(calm, folder):
    """With torchrun's static rendezvous: a rank dies in a unit, one in the fit; then comes Ctrl-C."""
    kills = (KILLS[1], "train 1")
    options = (f"--master-port={free_port()}", f"--max-restarts={len(kills)}")
    words = (*WORDS, "log=plain", *(f"{key}={value}" for key, value in TRACKERS.items()))
    done = run_ranks(words, folder, options=options, **environment(folder, kills))
    run = only_run(folder)
    assert units_of(folder, 1, "generate") == MISSING["generate"]
    assert kinds(run)[-1] == "run_stopped", done.err
    assert "exitcode  : 3" in done.err, "torchrun tells what its ranks answered"
    assert done.out.count("generation 1, turn 1 of 1") == 1, "one rank speaks"
    assert set((folder / "ranks").read_text().split()) == {"0"}, "one rank reports"
    said = [line for line in done.err.splitlines() if "another rank died" in line]
    assert len(said) == len(kills), "of each two ranks one survives"
    assert all(line.startswith("rank ") for line in said)
    assert done.err.count("Traceback") == 1, "torchrun's own"
    assert shared_fork_server().run(WORDS, folder).code == 0
    sessions = [event for event in events(run) if event["event"] == "session_started"]
    assert [session.get("world_size") for session in sessions] == [2, 2, 2, 1]
    assert artifacts(run) == artifacts(calm)
    assert flywheel.open_run(run).verify().first_bad is None


def test_a_batch_that_was_damaged_and_units_of_another_plan_are_made_again(calm, folder):
    kept = environment(folder)
    assert shared_fork_server().run(WORDS, folder, env=kept).code == -signal.SIGKILL
    run = only_run(folder)
    batches = sorted((run / "work" / "evaluate").glob("*.arrow"))
    assert len(batches) == 60
    for batch in batches[10:12]:
        batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    assert shared_fork_server().run(WORDS, folder, env=kept | {"PROBE_ATTEMPT": "1"}).code == -signal.SIGKILL
    assert units_of(folder, 1, "evaluate") == sorted(["dev-20", "dev-22", *GATE])
    plan = run / "work" / "generate" / "plan.json"
    plan.write_text(plan.read_text().replace('"generation":1', '"generation":2'))
    more = kept | {"PROBE_ATTEMPT": "3"}
    assert shared_fork_server().run(WORDS, folder, env=more).code == 0
    assert len(units_of(folder, 3, "generate")) == 100
    assert [stages(run)[w]["outputs"] for w in COMPARED] == [stages(calm)[w]["outputs"] for w in COMPARED]
