"""The file in which tuners of several runs share their trials."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flywheel.errors import DataError
from flywheel.tuners import memory

RESULTS = [{"number": 0, "trial": {"settings": {"lr": 0.1}}, "score": 0.5}]


def add(path: Path, run: str, *generations: int) -> None:
    for generation in generations:
        memory.add(path, run, generation, f"moons/{run}@{generation}", RESULTS)


def shown(path: Path, apart_from: str = "") -> list[str]:
    return [str(study["of"]) for study in memory.studies(path, apart_from=apart_from)]


def test_a_run_is_shown_the_studies_of_others_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "memory.jsonl"
    assert shown(path) == []
    add(path, "a", 0, 1)
    add(path, "b", 0)
    add(path, "a", 2)
    assert shown(path) == ["moons/a@0", "moons/a@1", "moons/b@0", "moons/a@2"]
    assert shown(path, "a") == ["moons/b@0"]
    assert memory.studies(path, apart_from="a")[0]["results"] == RESULTS


def test_a_study_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    add(path, "a", 0, 0, 1, 0)
    assert shown(path) == ["moons/a@0", "moons/a@1"]


def test_what_is_retired_is_shown_no_more(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    assert memory.retire(path, "a", [0]) == []
    assert not path.exists()
    add(path, "a", 0, 1)
    add(path, "b", 1)
    assert memory.in_use(path, "a", [1, 7]) == [1]
    assert memory.retire(path, "a", [1, 7]) == [1]
    assert memory.retire(path, "a", [1]) == []
    assert shown(path) == ["moons/a@0", "moons/b@1"]
    add(path, "a", 1)
    assert shown(path) == ["moons/a@0", "moons/b@1"], "a run that is resumed brings it back no more"


def test_the_newest_studies_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    add(path, "a", *range(memory.NEWEST + 3))
    assert shown(path)[0] == "moons/a@3"
    assert len(shown(path)) == memory.NEWEST


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_a_torn_last_line_is_passed_over_and_goes_with_the_next(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "memory"
    add(path, "a", 0)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    assert shown(path) == ["moons/a@0"]
    add(path, "a", 1)
    assert shown(path) == ["moons/a@0", "moons/a@1"]


ODD = [
    *("lr,score", '{"run": "a"}', "[1]", "3", '{"run": "a", "results": []}', '{"run": "a", "retired": 5}'),
    '{"run": "a", "of": "x@0", "generation": 0, "results": [{"score": 1}]}',
    '{"run": "a", "of": "x@0", "generation": 0, "results": 5}',
]


@pytest.mark.parametrize("text", ["precious notes", "{", "\x00\x01", '{"gen'])
def test_a_file_of_one_line_without_an_end_is_not_taken_for_a_torn_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "memory"
    path.write_text(text)
    if text.startswith("{"):
        assert shown(path) == []
        return
    with pytest.raises(DataError, match="line 1"):
        add(path, "a", 0)
    assert path.read_text() == text


@pytest.mark.parametrize("line", ODD)
def test_a_file_that_is_no_memory_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "memory"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"line 1 of .* is none of theirs\. Give another path"):
        memory.studies(path, apart_from="")
    with pytest.raises(DataError, match=r"line 1"):
        add(path, "a", 0)
    assert path.read_text() == f"{line}\n"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tuner\.memory must be a file that can be read and written"):
        add(tmp_path, "a", 0)


def test_runs_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: add(path, f"run{k}", 0, 1, 2), range(8)))
    assert sorted(shown(path)) == sorted(f"moons/run{k}@{g}" for k in range(8) for g in range(3))
