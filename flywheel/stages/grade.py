"""Grade: score what the champion made, whole groups at a time, on all ranks."""

from __future__ import annotations

from typing import Any

from flywheel.config.components import Components
from flywheel.config.fingerprint import fingerprint, fingerprints_of_parts
from flywheel.errors import StageFailed
from flywheel.graders.compositions import parts_of
from flywheel.graders.failures import OF_PART
from flywheel.records import Settings
from flywheel.runtime.context import Context, StageOutput
from flywheel.runtime.grading import Failures, Graded, grade_in_units
from flywheel.storage.events import GradeFacts, PartGraded
from flywheel.storage.state import Generation


def grade(ctx: Context, *, samples: str, parent: Generation) -> StageOutput:
    """A table of scores: the sample's id and the grader's columns, row for row.

    Facts: the grader's name and version, the weights that it loaded, if it did, and how many samples it could
    not score. Raises StageFailed if those are all, or a larger share than ``max_failures``.
    """
    grader = ctx.components.build("grader", ctx.settings)
    table = ctx.store.table(samples)
    named = {"samples": samples, "parent": parent.weights}
    graded = grade_in_units(ctx, grader, table, parent, inputs=named)
    if graded is None:
        return StageOutput()
    failures = graded.failures
    refuse_failures(failures, len(table), ctx.components.resolved["max_failures"])
    facts = GradeFacts(
        grader=type(grader).__name__,
        version=fingerprint(ctx.components, "grader", ctx.settings),
        loaded_parent=graded.loaded_parent,
        rows=len(table),
        failed=failures.count,
        reasons=failures.reasons,
        parts=_parts(ctx.components, ctx.settings, grader, graded),
        units=graded.units.facts,
    )
    return StageOutput({"scores": graded.scores}, facts, graded.units.seconds)


def refuse_failures(failures: Failures, rows: int, limit: float) -> None:
    """Raise StageFailed, with the commonest reason, if too large a share of the rows has no score."""
    if not failures.count:
        return
    why = next(iter(failures.reasons))
    if failures.count == rows:
        raise StageFailed("grade", f"no sample has a score; most often: {why}")
    if failures.count > limit * rows:
        raise StageFailed(
            "grade",
            f"{failures.count} of {rows} samples have no score, more than max_failures={limit:g} allows; "
            f"most often: {why}",
        )


def _parts(components: Components, settings: Settings, grader: Any, graded: Graded) -> dict[str, PartGraded]:
    versions, parts = fingerprints_of_parts(components, "grader", settings), {}
    for name, part in parts_of(grader).items():
        failures = Failures.of(graded.scores, f"{OF_PART}{name}")
        parts[name] = PartGraded(
            grader=type(part).__name__,
            version=versions.get(name),
            failed=failures.count,
            reasons=failures.reasons,
        )
    return parts
