"""The planted fault "leaked test item": what a suite asks gets into no corpus, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from msgspec.structs import replace

from flywheel.errors import DataError, ExitCode
from flywheel.records import Decontaminate, Exhaustible, Role
from flywheel.tables.ngrams import ngrams, ngrams_of, overlaps
from flywheel.testing.moons.task import Moons
from tests.support.harness import events
from tests.support.loop_runs import Probe, run_moons, table_of

QUESTION = "a traveller who left at noon walks for two hours and rests in the shade of number {} oak trees"


@dataclass(kw_only=True)
class Leaks(Moons):
    """The first answers of a turn are items of the gate, with another prompt around them."""

    rows: int = 3

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        columns = super().generate(model, prompts, settings, keys)
        leaked = next(s for s in self.suites() if s.role == Role.GATE).items.slice(0, self.rows)
        points = pa.chunked_array(
            [leaked["point"].combine_chunks(), prompts["point"].slice(self.rows).combine_chunks()]
        )
        return {**columns, "point": points.combine_chunks(), "probability": [1.0] * len(prompts)}


@dataclass(kw_only=True)
class Tells(Moons):
    """Items, seed samples and answers have questions in words; the first answers have words of the gate's."""

    decontaminate = Decontaminate(("question",), ngram=13)
    identity_columns = ()
    seed_too: bool = False

    def seed(self) -> Any:
        table = super().seed()
        said = [QUESTION.format(0) if self.seed_too else f"point number {k}" for k in range(len(table))]
        return table.append_column("question", pa.array(said))

    def suites(self) -> Any:
        return [self._with_questions(suite) for suite in super().suites()]

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Any) -> Any:
        columns = super().generate(model, prompts, settings, keys)
        said = [
            f"Well: {QUESTION.format(k).upper()}, or so?" if k < 2 else name
            for k, name in enumerate(prompts["prompt"].to_pylist())
        ]
        return {**columns, "question": said, "probability": [1.0] * len(prompts)}

    def _with_questions(self, suite: Any) -> Any:
        if suite.role != Role.GATE:
            return suite
        asked = [QUESTION.format(k) for k in range(len(suite.items))]
        return replace(suite, items=suite.items.append_column("question", pa.array(asked)))


@pytest.fixture
def moons(folder: Path) -> Probe:
    small = {"generations": 2, "settings.steps": 3, "task.unlabelled": 60}
    return lambda **overrides: run_moons(folder / "runs", **{**small, **overrides})


def facts(run: Any) -> list[dict[str, Any]]:
    return [e["facts"] for e in events(run.path) if e.get("stage") == "curate"]


def test_a_leaked_test_item_is_caught_by_name_and_the_run_unharmed(moons: Probe, capsys: Any) -> None:
    run = moons(task___target_=f"{__name__}.Leaks", log="plain")
    assert run.exit_code is ExitCode.FINISHED
    reason = "leaked: suite gate asks it"
    assert [own.get("leaked", 0) for own in facts(run)] == [0, 3, 3]
    assert facts(run)[1]["by_reason"][reason] == 3
    decisions = table_of(run, 1, "curate", "decisions")
    leaked = decisions.filter(pc.equal(decisions["reason"], reason))
    assert set(leaked["keep"].to_pylist()) == {False}
    assert set(leaked["count"].to_pylist()) == {0}
    corpus = table_of(run, 1, "curate", "corpus")
    assert not set(leaked["id"].to_pylist()) & set(corpus["id"].to_pylist())
    assert run.show(1).data.leaked == 3
    assert "3 leaked rows that a suite asks left out" in capsys.readouterr().out
    assert run.verify().first_bad is None


def test_problems_so_few_that_they_must_recur_are_exempt(moons: Probe, monkeypatch: Any) -> None:
    few = (Exhaustible("label", (0, 1), "there are but two"),)
    monkeypatch.setattr(Leaks, "exhaustible", few, raising=False)
    run = moons(task___target_=f"{__name__}.Leaks", generations=1)
    assert "leaked" not in facts(run)[1]


def test_a_refit_may_learn_the_labels_of_dev_and_gate(moons: Probe) -> None:
    run = moons(task___target_=f"{__name__}.Leaks", generations=1, refit=True)
    assert run.final().record.status == "final"
    assert facts(run)[-1]["by_origin"]["human"] == 10 + 400, "labels are human: they are exempt"


def test_words_in_a_row_of_an_item_are_a_leak(moons: Probe, capsys: Any) -> None:
    run = moons(task___target_=f"{__name__}.Tells", generations=1, log="plain")
    assert facts(run)[1]["by_reason"]["leaked: suite gate asks it"] == 2
    assert "held out by texts of question by 13 words in a row" in capsys.readouterr().out


def test_seed_samples_with_words_of_an_item_are_refused_before_anything_is_trained(moons: Probe) -> None:
    with pytest.raises(
        DataError, match=r"Suite gate must hold out .*: 10 seed samples have 13 words in a row"
    ):
        moons(**{"task._target_": f"{__name__}.Tells", "+task.seed_too": True})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("question", "must be a flywheel.records.Decontaminate"),
        (Decontaminate(("question",), ngram=0), "1 word or more"),
        (Decontaminate(("answer",)), "no suite has"),
        (Decontaminate(("point",)), "must have texts"),
    ],
)
def test_wrong_rules_are_refused(moons: Probe, monkeypatch: Any, rule: Any, message: str) -> None:
    monkeypatch.setattr(Tells, "decontaminate", rule)
    with pytest.raises(DataError, match=message):
        moons(task___target_=f"{__name__}.Tells")


def test_ngrams_are_of_words_without_case_and_punctuation_and_of_short_texts_the_whole() -> None:
    assert ngrams("One, two; three", 2) == ngrams("one two three", 2)
    assert len(ngrams("one two three", 2)) == 2
    assert ngrams("one two", 13) == ngrams("ONE TWO!", 13)
    assert ngrams(None, 2) == ngrams("...", 2) == set()
    items = pa.table({"q": ["a b c d", "x"], "other": [1, 2]})
    rows = pa.table({"q": ["z a b c", "x", "x y", None, "a b"]})
    found = overlaps(rows, ("q", "r"), 3, {"gate": ngrams_of([items], ("q", "r"), 3)})["gate"]
    assert found.tolist() == [True, True, False, False, False]
