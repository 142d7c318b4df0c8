"""The contracts of graders, curators, tuners, guards and reviewers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from flywheel.errors import AwaitingReview
from flywheel.protocols import ReviewRequest
from flywheel.records import Role, Start, Verdict
from flywheel.stages import table as stages
from flywheel.stages.decisions import checked
from flywheel.storage.corpus import read
from flywheel.storage.events import StageDone
from flywheel.storage.sources import Source
from flywheel.storage.state import Generation
from flywheel.testing.contracts.bench import Bench, bench_of, given, rule


def check_grader(grader: Any, samples: Any, model: Any = None) -> None:
    """Check a grader on samples as a task's ``generate`` returns them.

    ``model``: what ``load_parent()`` gives, if the grader asks for it.
    """
    parts = {"grader": grader} if model is None else {"grader": grader, "model": model}
    with bench_of(given(**parts)) as bench:
        check_grader_on(bench, bench.samples(samples, 1))


def check_grader_on(bench: Bench, samples: str) -> str:
    """Check the grader of a bench on all samples and on one group alone; return the scores."""
    champion, table = bench.champion(), bench.store.table(samples)
    group = table.filter(pc.equal(table["group"], table["group"][0]))
    bench.twice(stages.grade, samples=bench.store.put_table(group), parent=champion)
    name = bench.twice(stages.grade, samples=samples, parent=champion).outputs["scores"]
    scores = bench.store.table(name)
    kinds = [str(field.type) for field in scores.schema][1:]
    rule(
        kinds and kinds[0] == "double",
        f"A grader's first column must be its score, as float64; its columns are {kinds or 'none'}. "
        "Return {NAME: scores} with one float for each sample.",
    )
    return name


def check_curator(curator: Any, human: Any, generated: Any) -> None:
    """Check a curator on payload rows of people, and of a model with its graders' columns beside them."""
    with bench_of(given(curator=curator)) as bench:
        rows = (human, generated, generated)
        check_curator_on(bench, [[bench.samples(rows[k], k), None, None] for k in range(3)])


def check_curator_on(bench: Bench, sources: Sequence[Source]) -> None:
    """Check the curator of a bench at genesis, if people labelled rows for it, and in later turns."""
    carry: dict[str, Any] = {}
    trained = len(bench.store.table(str(sources[0][0]))) > 0
    for turn in range(0 if trained else 1, len(sources)):
        done = bench.twice(
            stages.curate, generation=turn, sources=sources[: turn + 1], carry={"curator": carry}
        )
        check_carry_kept("curator", done)
        carry = bench.store.json(done.outputs["carry"])
    curator = bench.components.build("curator", bench.components.settings())
    if getattr(curator, "decide", None) is not None:
        for rows in (read(bench.store, [source]) for source in sources):
            portions = [rows, rows.slice(0, 1), rows.slice(1)]
            whole, *parts = (checked(curator.decide(some), some) for some in portions if len(some))
            rule(
                pa.concat_tables([whole.slice(0, 0), *parts]).equals(whole),
                "decide() must look at each row by itself: it is shown portions of a batch, and answers "
                "otherwise to the whole. A curator that compares rows has only curate().",
            )


def check_tuner(tuner: Any) -> None:
    """Check a tuner on the recipe ``moons``, with fits of two steps."""
    with bench_of(given(tuner=tuner)) as bench:
        check_tuner_on(bench, [bench.human()])


def check_tuner_on(bench: Bench, sources: Sequence[Source]) -> None:
    """Check the tuner of a bench, at genesis and in a turn."""
    champion = bench.champion()
    for generation in (0, 1):
        starts = {"fresh": Start("fresh")}
        starts |= {"parent": Start("parent", champion.weights, 0)} if generation else {}
        of_turn = {"parent": champion if generation else None, "redo": stages.REDO}
        inputs = {**of_turn, "sources": sources, "starts": starts, "init": "fresh"}
        done = bench.twice(stages.tune, generation=generation, **inputs)
        check_carry_kept("tuner", done)


def check_guard(guard: Any) -> None:
    """Check what a guard answers to candidates on the recipe ``moons``: one as its parent is, one worse.

    There is a suite ``guard`` with role guard, of the gate's items.
    """
    with bench_of(given(guards={"guard": guard})) as bench:
        suites = bench.data.suites
        own = replace(suites["gate"], name="guard", role=Role.GUARD)
        bench.tools.data = replace(bench.data, suites={**suites, own.name: own})
        check_guards_on(bench)


def check_guards_on(bench: Bench) -> None:
    """Check the guards of a bench."""
    champion = bench.champion()
    judged = Generation(1, 0, champion=0, stages=copy.deepcopy(champion.stages))
    evaluated = bench.do(stages.evaluate, weights=champion.weights, opponent=champion)
    equal = evaluated.outputs["outcomes"]
    outcomes = bench.store.table(equal)
    zeros = pc.multiply(outcomes["score"], 0.0)
    worse = bench.store.put_table(outcomes.set_column(outcomes.column_names.index("score"), "score", zeros))
    for candidate, promote in ((equal, True), (worse, False)):
        verdict = Verdict(promote, "of a test", 0.05, p_value=0.01 if promote else 1.0)
        inputs = {"judged": judged, "opponent": champion, "verdict": verdict}
        bench.twice(stages.guard, candidate=candidate, champion=equal, **inputs)


def check_reviewer(reviewer: Any) -> None:
    """Check what a reviewer answers to a candidate that passed the gate."""
    with bench_of(given(review=reviewer)) as bench:
        check_reviewer_on(bench)


def check_reviewer_on(bench: Bench) -> None:
    """Check the reviewer of a bench."""
    candidate = Generation(1, 0, champion=0, stages=copy.deepcopy(bench.champion().stages))
    verdict = Verdict(True, "better beyond chance", 0.05, p_value=0.01)
    request = ReviewRequest(candidate, verdict, "0" * 64 + ".json", None)
    answer = bench.components.build("review", bench.components.settings()).review(request)
    rule(
        answer is None or isinstance(answer, bool),
        f"A review must answer True, False or None (not yet); it answered {answer!r}, which a run would take "
        f"as {bool(answer)}.",
    )
    try:
        bench.do(stages.review, candidate=candidate, verdict=verdict, consents={})
    except AwaitingReview:
        return


def check_carry_kept(component: str, done: StageDone[Any]) -> None:
    """``carry_kept`` is one of two words; any other would be read as the second."""
    kept = done.facts.carry_kept
    rule(
        kept in ("always", "promotion"),
        f"The {component}'s carry_kept must be 'always' or 'promotion'; it is {kept!r}.",
    )
