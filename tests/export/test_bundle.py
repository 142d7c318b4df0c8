import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import flywheel
from flywheel.errors import RunError
from flywheel.export import manifest
from flywheel.export.bundle import bundle
from flywheel.export.verification import BundleCheck, _flagged, verify_bundle
from flywheel.lineage.recall import recall
from flywheel.lineage.record import Record
from flywheel.lineage.status import read_state
from flywheel.storage import files, ledger
from flywheel.storage.ledger import Ledger
from tests.support.events import event_of
from tests.support.fake_stages import on_strings, play
from tests.support.loop_runs import quick_folder

NAMES = ("README.md", "config.json", "lineage.jsonl", "model.safetensors", "outcomes.parquet")


def named(folder: Path, **options: Path) -> dict[str, str]:
    return dict(verify_bundle(folder, **options).problems)


def test_a_bundle_holds_the_generation_and_its_papers(finished_run: Path, folder: Path) -> None:
    run = flywheel.open_run(finished_run)
    view = run.generation(1)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "manifest.json"])
    assert (folder / "model.safetensors").read_bytes() == view.file.read_bytes()
    config = json.loads((folder / "config.json").read_bytes())
    assert config["settings"] == view.record.settings
    assert config["model"]["_target_"] == "flywheel.testing.moons.model.Classifier"
    outcomes = pq.read_table(folder / "outcomes.parquet")
    scores = outcomes.filter(outcomes["suite"].to_numpy() == "gate")["score"].to_pylist()
    mean = sum(scores) / len(scores)
    assert mean == view.metrics["gate"]["accuracy"].value
    assert [path for path in folder.parent.iterdir() if path != folder] == [], "nothing is left beside it"


def test_the_lineage_is_the_ledgers_own_lines(finished_run: Path, folder: Path) -> None:
    lines = (finished_run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    excerpt = (folder / "lineage.jsonl").read_bytes().splitlines(keepends=True)
    assert set(excerpt) <= set(lines)
    assert excerpt[-1] == lines[-1]
    generations = {json.loads(line).get("generation") for line in excerpt}
    assert {0, 1} <= generations
    assert json.loads(excerpt[-1])["hash"] == json.loads((folder / "manifest.json").read_bytes())["head"]


def test_the_lineage_of_a_frontier_has_its_champion_and_that_it_fell_back(
    frontier_run: Path, tmp_path: Path
) -> None:
    folder = bundle(frontier_run, 4, tmp_path / "out")
    assert verify_bundle(folder, run=frontier_run).problems == ()
    lines = [json.loads(line) for line in (folder / "lineage.jsonl").read_bytes().splitlines()]
    assert "fell_back" in {line["event"] for line in lines}
    generations = {line["generation"] for line in lines if line["event"] == "generation_started"}
    assert generations == {0, 1, 3, 4}, "2 was rejected, and made nothing that 4 drew on"


def test_the_manifest_names_every_file(folder: Path) -> None:
    listed = json.loads((folder / "manifest.json").read_bytes())["files"]
    for name in NAMES:
        data = (folder / name).read_bytes()
        assert listed[name] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_the_same_generation_makes_the_same_bundle(finished_run: Path, folder: Path, tmp_path: Path) -> None:
    again = bundle(finished_run, 1, tmp_path / "again")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_what_exists_is_not_overwritten(finished_run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    for out in (folder, tmp_path / "link", tmp_path / "file", tmp_path):
        with pytest.raises(RunError, match="exists"):
            bundle(finished_run, 1, out)


def test_a_disk_that_fails_leaves_nothing(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(RunError, match="No space left"):
        bundle(finished_run, 1, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_generation_without_weights_is_refused(run_copy: Path, tmp_path: Path) -> None:
    record = Record.read(run_copy)
    weights = str(record.generation(1).weights)
    ledger = Ledger(run_copy)
    ledger.append(event_of("rolled_back", champion=0, why="a champion's weights are never pruned"))
    ledger.append(event_of("pruned", objects={weights: 1}))
    ledger.close()
    record.store.path(weights).unlink()
    with pytest.raises(RunError, match="were pruned"):
        bundle(run_copy, 1, tmp_path / "out")


def test_a_whole_bundle_is_the_runs(finished_run: Path, folder: Path, run_copy: Path) -> None:
    check = verify_bundle(folder, run=finished_run)
    assert (check.problems, check.signature, check.files) == ((), "none", 5)
    ledger = Ledger(run_copy)
    ledger.append(event_of("session_started"))
    ledger.close()
    assert named(folder, run=run_copy) == {}, "the run may have gone on"


def test_another_run_does_not_stand_behind_it(folder: Path, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other")
    other.append(event_of("run_created", recipe="moons", name="other"))
    other.close()
    assert "no line of the ledger" in named(folder, run=tmp_path / "other")["manifest.json"]


def test_missing_and_added_files_and_links_are_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "evil.py").write_text("")
    (folder / "deep").mkdir()
    (folder / "deep" / "evil.py").write_text("")
    (folder / "empty").mkdir()
    copy = folder.parent / "copy"
    shutil.copy(folder / "README.md", copy)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(copy)
    (folder / "linked").symlink_to(folder.parent)
    problems = named(folder)
    assert problems["config.json"] == "it is missing"
    assert problems["README.md"] == "it is a link"
    assert all("added" in problems[name] for name in ("evil.py", "deep/evil.py", "empty", "linked"))
    assert len(problems) == 6


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_found_and_its_file_named(folder: Path, data: st.DataObject) -> None:
    path = folder / data.draw(st.sampled_from([*NAMES, "manifest.json"]))
    whole = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    path.write_bytes(broken)
    assert set(named(folder)) == {path.name}
    path.write_bytes(whole)


def rewritten(folder: Path, **about: object) -> None:
    """A manifest that fits the files as they are now."""
    old = manifest.read(folder)
    others = [path for path in folder.iterdir() if path.name not in (manifest.NAME, manifest.SIGNATURE)]
    texts = {path.name: path.read_bytes() for path in others}
    (folder / manifest.NAME).write_bytes(manifest.written(replace(old.about, **about), texts))


def test_files_that_contradict_each_other_are_named_though_the_manifest_fits(folder: Path) -> None:
    rewritten(folder, head="0" * 64)
    assert "head" in named(folder)["lineage.jsonl"]
    rewritten(folder, head=last_hash(folder))
    assert named(folder) == {}
    rewritten(folder, generation=0)
    assert "made these weights" in named(folder)["lineage.jsonl"]
    rewritten(folder, generation=1)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    rewritten(folder)
    assert set(named(folder)) == {"model.safetensors"}


def last_hash(folder: Path) -> str:
    return str(json.loads((folder / "lineage.jsonl").read_bytes().splitlines()[-1])["hash"])


def test_a_line_of_another_ledger_is_named(folder: Path) -> None:
    path = folder / "lineage.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first.replace(b"moons", b"noons"), *rest]))
    rewritten(folder)
    assert "line 1: its content does not match its hash" in named(folder)["lineage.jsonl"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"hash": 1}', "\xff"])
def test_a_manifest_that_is_none_is_named(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    assert set(named(folder)) == {"manifest.json"}
    os.unlink(folder / "manifest.json")
    assert set(named(folder)) == {"manifest.json"}


def test_a_manifest_that_names_files_elsewhere_reads_none_of_them(folder: Path) -> None:
    outside = folder.parent / "secret"
    outside.write_text("secret")
    old = manifest.read(folder)
    texts = {"../secret": b"secret", str(outside): b"secret"}
    (folder / manifest.NAME).write_bytes(manifest.written(old.about, texts))
    problems = named(folder)
    assert problems["../secret"] == problems[str(outside)] == "it is missing"


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"manifest\.json"):
            verify_bundle(folder)


def test_a_generation_that_the_run_has_recalled_since_is_named(run_copy: Path, tmp_path: Path) -> None:
    before = [bundle(run_copy, number, tmp_path / f"before-{number}") for number in (0, 1, 2)]
    recall(run_copy, generation=1, why="the grader was wrong", yes=True)
    assert [problem_texts(verify_bundle(folder)) for folder in before] == [[], [], []]
    since = [problem_texts(verify_bundle(folder, run=run_copy)) for folder in before]
    said = f"model.safetensors: the ledger of {run_copy} says that generation"
    assert since == [[], *([f"{said} {number} is recalled: the grader was wrong"] for number in (1, 2))]


def test_a_generation_whose_own_lineage_has_the_recall_is_named_without_the_run(
    run_copy: Path, tmp_path: Path
) -> None:
    recall(run_copy, generation=1, why="the grader was wrong", yes=True)
    after = [verify_bundle(bundle(run_copy, number, tmp_path / str(number))) for number in (0, 1, 2)]
    said = "model.safetensors: its own lineage says that generation"
    assert [problem_texts(check) for check in after] == [
        [],
        *([f"{said} {number} is recalled: the grader was wrong"] for number in (1, 2)),
    ]


def test_a_suspect_generation_is_named_as_such_and_so_is_whoever_began_on_it() -> None:
    """Flags are replayed from the lines: a generation that begins on a suspect champion is suspect."""
    with on_strings(), quick_folder() as folder:
        play(folder / "fake" / "run", 6, seed=1)
        run = folder / "fake" / "run"
        number = next(n for n in range(7) if recall(run, generation=n, why="flawed").json()["suspect"])
        recall(run, generation=number, why="flawed", yes=True)
        play(run, 9, seed=1)
        state, events = read_state(run), ledger.read(run)
        flagged = {g.number for g in state.generations if g.recalled or g.suspect}
        said = {g.number: [*_flagged(events, g.number, "it says that")] for g in state.generations}
        assert {number for number, texts in said.items() if texts} == flagged
        for generation in state.generations:
            word = "suspect" if generation.suspect else "recalled"
            assert all(f"is {word}:" in text for _, text in said[generation.number])


def test_a_forks_generation_that_learned_from_what_its_source_recalled_since_is_named(
    old: flywheel.Run, tmp_path: Path
) -> None:
    fork = old.fork(1, ["generations=0", "threads=1", "log=quiet", "name=fork", "seal=reopen"])
    folder = fork.bundle(0, tmp_path / "bundle")
    assert not verify_bundle(folder, run=fork.path).problems
    old.recall(generation=1, why="flawed", yes=True)
    (text,) = problem_texts(verify_bundle(folder, run=fork.path))
    assert text.endswith(f"generation 0 learned from what {old.path} has recalled since the fork")


def problem_texts(check: BundleCheck) -> list[str]:
    return [": ".join(problem) for problem in check.problems]


def test_the_runs_name_is_the_ledgers_however_the_folder_is_given(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [bundle(run_copy, 0, tmp_path / "whole")]
    moved = run_copy.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    folders.append(bundle(Path("."), 0, tmp_path / "here"))
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second
    assert json.loads(first["manifest.json"])["run"] == read_state(moved).created.name
