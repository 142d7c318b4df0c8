from pathlib import Path

import pytest

import flywheel
from flywheel.export.bundle import bundle
from tests.support.events import record_recall


def body(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_the_hub_reads_the_header(finished_run: Path, folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="the development extra brings it")
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.library_name == "flywheel"
    assert "moons" in card.data.tags
    metrics = flywheel.open_run(finished_run).generation(1).metrics
    results = {result.dataset_name: result for result in card.data.eval_results}
    assert set(results) == set(metrics)
    for suite, result in results.items():
        assert result.metric_type == "accuracy"
        assert result.metric_value == metrics[suite]["accuracy"].value
        assert result.task_type == "other"
    assert hub.ModelCardData(**card.data.to_dict()).to_yaml()


def test_it_says_what_a_reader_needs(finished_run: Path, folder: Path) -> None:
    run, text = flywheel.open_run(finished_run), body(folder)
    for heading in ("Evaluation", "Data", "How it was made", "Lineage", "Known recalls", "Limits"):
        assert f"\n## {heading}\n" in text
    report = run.show(1).json()
    low, high = (report["metrics"]["gate"]["accuracy"][key] for key in ("low", "high"))
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in text
    assert "| human: recipe | 0 | 10 | 10 |" in text
    assert "| samples | drawn |" in text
    assert "times trained on" not in text
    assert "may have seen it less often or never" in text
    assert "| made by generation 0 | 1 |" in text
    assert report["weights"] in text
    assert run.status().json()["head"] in text
    assert "None at ledger head" in text


def test_a_recall_is_said_first(run_copy: Path, tmp_path: Path) -> None:
    record_recall(run_copy, why="the <b>grader</b>\nwas wrong")
    recalled, suspect, clean = (body(bundle(run_copy, n, tmp_path / str(n))) for n in (1, 2, 0))
    assert "**Recalled: do not use it.**" in recalled
    assert "the &lt;b>grader&lt;/b> was wrong. It touches generation 1." in recalled
    assert "\n- recalled\n" in recalled.split("---")[1]
    assert "**Suspect.**" in suspect
    assert "It touches nothing that this generation came from." in clean


def test_a_champion_without_a_test_says_so_first(greedy_run: Path, tmp_path: Path) -> None:
    text = body(bundle(greedy_run, 1, tmp_path / "out"))
    assert "> **Not tested.** The run promoted by `promotion=greedy`: no test" in text
    assert "\n- no-test\n" in text.split("---")[1]
    assert "Verdict: promoted, no test, promotion=greedy: +2.00% on dev against generation 0." in text
    assert "On dev beside generation 0: +2.00% (which is no verdict)." in text
    assert "without a test (`promotion=greedy`)" in text.partition("## Limits")[2]
    assert "- promotion=greedy: no test" in text.partition("## How it was made")[2]
    assert "The gate:" not in text


def test_what_is_ahead_of_the_champion_is_not_called_certified(frontier_run: Path, tmp_path: Path) -> None:
    text = body(bundle(frontier_run, 5, tmp_path / "out"))
    assert "It is no champion: it did no shown harm on dev" in text.partition("## Limits")[2]
    assert "- promotion=frontier: what does no shown harm on dev" in text.partition("## How it was made")[2]
    assert "Not tested" not in text
    abandoned = body(bundle(frontier_run, 3, tmp_path / "abandoned"))
    assert "\n- abandoned\n" in abandoned.split("---")[1]


def test_a_fork_says_what_it_inherited(old: flywheel.Run, tmp_path: Path) -> None:
    recalled = old.recall(generation=2, why="flawed", yes=True).samples.total
    fork = old.fork(0, ["generations=0", "threads=1", "log=quiet", "name=fork", "seal=reopen"])
    text = body(fork.bundle(0, tmp_path / "bundle"))
    inherited = text.partition("## Known recalls")[2].partition("##")[0]
    assert f"of which generation 0 was forked: {recalled} samples that were recalled there" in inherited
    assert "None at ledger head" not in inherited
