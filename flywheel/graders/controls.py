"""Negative controls: answers that are wrong by construction, which a grader of answers must score low.

A verifier that an empty or a constant answer passes is what a model will learn to please.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flywheel.errors import ConfigError, DataError
from flywheel.graders.failures import FAILURE, score_of, with_reasons
from flywheel.keys import Key
from flywheel.records import RIGHT

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64
"""Seed samples that are taken, at most."""
MOST = 0.1
"""Share of the wrong answers that may pass."""
_OPT_OUT = "Or set negative_controls=false in the grader's section, to do without."


def check_controls(grader: Any, human: pa.Table) -> None:
    """Have a grader score wrong answers made from seed samples, if it says which column it checks.

    Raises ConfigError if more than ``MOST`` of those of a kind pass, or if no seed sample's own answer can be
    scored, as nothing is then learned from the others' scores.
    """
    answer = getattr(grader, "checked_answer", None)
    if answer is None:
        return
    if answer not in human.column_names or not len(human):
        raise ConfigError(
            f"A grader of answers is tried on wrong ones before a run starts, made of the column {answer!r} "
            f"of the seed samples; these have {len(human)} rows and {_own(human)}. Name the column in the "
            f"grader's argument `answer`. {_OPT_OUT}"
        )
    seeds = human.take(Key.root(0)("controls").numpy().permutation(len(human))[:ROWS])
    own, reason = _passed(grader, seeds)
    if reason and not own:
        raise ConfigError(
            f"A grader of answers must be able to score the seed samples' own; it failed on all {len(seeds)} "
            f"tried, most often: {reason}. Mend it, or the samples. {_OPT_OUT}"
        )
    for kind, wrong in wrong_answers(seeds, answer).items():
        passed, _ = _passed(grader, wrong)
        if passed and sum(passed) > MOST * len(wrong):
            raise ConfigError(
                f"A grader must score wrong answers low: at most {MOST:.0%} of {kind} ones may pass, with "
                f"{RIGHT:g} or more; {sum(passed)} of {len(wrong)} do (column {answer!r}). A model would "
                f"learn to give such answers: mend the grader. {_OPT_OUT}"
            )


def wrong_answers(seeds: pa.Table, answer: str) -> dict[str, pa.Table]:
    """Seed samples with answers that are not theirs: empty, constant and shuffled, where there are any.

    A row whose own answer is the same is left out, e.g. that of which the constant one is right.
    """
    import pyarrow as pa

    column = seeds[answer].combine_chunks()
    texts = [str(value) for value in column.to_pylist()]
    constant = max(texts, key=texts.count)
    others = {
        "empty": pa.array([_empty(column.type)] * len(column), column.type),
        "constant": column.take(pa.array([texts.index(constant)] * len(column))),
        "shuffled": column.take(_shifted(texts)),
    }
    made = {}
    for kind, values in others.items():
        is_other = [str(value) != text for value, text in zip(values.to_pylist(), texts, strict=True)]
        position = seeds.column_names.index(answer)
        wrong = seeds.set_column(position, answer, values).filter(pa.array(is_other))
        if len(wrong):
            made[kind] = wrong
    return made


def _empty(kind: pa.DataType) -> Any:
    """The empty value of a type; null where it has none."""
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return b""
    return [] if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None


def _shifted(texts: list[str]) -> pa.Array:
    """For each row another one's, most of them of another answer: sorted by answer, and shifted by half."""
    import pyarrow as pa

    order = sorted(range(len(texts)), key=texts.__getitem__)
    half = len(order) // 2
    other = {row: order[(place + half) % len(order)] for place, row in enumerate(order)}
    return pa.array([other[row] for row in range(len(texts))])


def _passed(grader: Any, samples: pa.Table) -> tuple[list[bool], str]:
    """Of each sample that has a score whether it passes, and why one has none."""
    keys = Key.root(0)("controls", "group").each(samples["group"].to_pylist())
    scores = with_reasons(grader.grade(samples, _no_model, keys), samples)
    values = scores[score_of(scores)].to_pylist()
    reasons = scores[FAILURE].drop_null().to_pylist() if FAILURE in scores.column_names else []
    return [value >= RIGHT for value in values if value is not None], next(iter(reasons), "")


def _no_model() -> Any:
    raise DataError(
        f"Wrong answers are scored before there is a model; this grader asks for the parent's. {_OPT_OUT}"
    )


def _own(human: pa.Table) -> str:
    from flywheel.tables import PROVENANCE

    names = [name for name in human.column_names if name not in PROVENANCE.names]
    return f"columns {', '.join(names)}" if names else "no columns of their own"
