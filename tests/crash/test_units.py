"""SIGKILL at unit 60 of 100 in evaluate, generate and grade: only what was not durable is made again."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import flywheel
from tests.support.harness import PROBE, events, only_run, shared_fork_server
from tests.support.loop_runs import quick_folder
from tests.support.ranks import ended, torchrun

WORDS = (*PROBE, "name=run", "generations=1", "genesis=fresh", "chunk_size=2", "log=quiet")
WORDS = (*WORDS, "+task.unlabelled=200", "+task.items=100")
KILLS = ("evaluate gate-20", "generate unlabelled-120", "grade unlabelled-120")
"""The first rows of units 60: an evaluation has 50 units of dev before those of the gate."""
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


def on_ranks(folder: Path, count: int, kills: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    for name, value in environment(folder, kills).items():
        patch.setenv(name, value)
    options = ("--standalone", f"--max-restarts={len(kills)}")
    with torchrun(WORDS, folder, ranks=count, options=options) as process:
        done = ended(process, 240)
    assert done.code == 0, done.err


def environment(folder: Path, kills: Sequence[str] = KILLS) -> dict[str, str]:
    return {"PROBE_UNITS": str(folder / "units"), "PROBE_KILLS": ",".join(kills), "PROBE_KEEP_EVERY": "0"}


@pytest.mark.parametrize(
    ("ranks", "kills"),
    [
        (1, KILLS),
        (2, KILLS[1:2]),
        pytest.param(2, KILLS, marks=pytest.mark.slow),
        pytest.param(3, KILLS, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(300)
def test_a_stage_that_was_killed_goes_on_with_the_units_that_are_missing(
    calm, folder, monkeypatch, ranks, kills
):
    on_one_rank(folder) if ranks == 1 else on_ranks(folder, ranks, kills, monkeypatch)
    check_units_begun(folder, kills)
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


def check_units_begun(folder: Path, kills: Sequence[str]) -> None:
    """After each kill only the units from the one that died on were done."""
    names = {"evaluate": gate_items(range(20, 100, 2)), "generate": prompts(range(120, 200, 2))}
    for attempt, kill in enumerate(kills):
        stage = kill.split()[0]
        assert kill.split()[1] in units_of(folder, attempt, stage)
        assert units_of(folder, attempt + 1, stage) == names.get(stage, names["generate"]), stage


def test_the_answers_of_an_outside_service_are_kept_with_each_unit(calm, folder):
    """Though units are otherwise kept after an hour: each is paid for once."""
    paid = [f"{part}._target_=tests.support.probe_parts.Paid{part.title()}" for part in ("task", "grader")]
    on_one_rank(folder, *paid, PROBE_KEEP_EVERY="3600")
    check_units_begun(folder, KILLS)
    made = stages(only_run(folder))
    assert [made[w]["outputs"] for w in COMPARED] == [stages(calm)[w]["outputs"] for w in COMPARED]


def gate_items(rows: Sequence[int]) -> list[str]:
    return sorted(f"gate-{row}" for row in rows)


def prompts(rows: Sequence[int]) -> list[str]:
    return sorted(f"unlabelled-{row}" for row in rows)


def test_a_batch_that_was_damaged_and_units_of_another_plan_are_made_again(calm, folder):
    kept = environment(folder)
    assert shared_fork_server().run(WORDS, folder, env=kept).code == -signal.SIGKILL
    run = only_run(folder)
    batches = sorted((run / "work" / "evaluate").glob("*.arrow"))
    assert len(batches) == 60
    for batch in batches[10:12]:
        batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    assert shared_fork_server().run(WORDS, folder, env=kept | {"PROBE_ATTEMPT": "1"}).code == -signal.SIGKILL
    assert units_of(folder, 1, "evaluate") == sorted(["dev-20", "dev-22", *gate_items(range(20, 100, 2))])
    plan = run / "work" / "generate" / "plan.json"
    plan.write_text(plan.read_text().replace('"generation":1', '"generation":2'))
    more = kept | {"PROBE_ATTEMPT": "3"}
    assert shared_fork_server().run(WORDS, folder, env=more).code == 0
    assert len(units_of(folder, 3, "generate")) == 100
    assert [stages(run)[w]["outputs"] for w in COMPARED] == [stages(calm)[w]["outputs"] for w in COMPARED]
