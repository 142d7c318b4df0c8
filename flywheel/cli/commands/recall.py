"""Recall a flaw and all that descends from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, reply
from flywheel.cli.rendering import by_text, fork_text, goes_on_text

if TYPE_CHECKING:
    from flywheel.lineage.recall import CarryChange, ChampionChange, RecallReport


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    flaw = parser.add_mutually_exclusive_group(required=True)
    flaw.add_argument(
        "--generation", type=generation_word, metavar="N", help="its batch and its weights are flawed"
    )
    flaw.add_argument("--where", metavar="SQL", help='samples are flawed, e.g. "made_in = 2 and label = 9"')
    parser.add_argument("--why", required=True, help="a sentence for whoever reads the ledger")
    parser.add_argument("--strict", action="store_true", help="recall what is only suspect, too")
    parser.add_argument("--yes", action="store_true", help="do it; without, only say what it would touch")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Name a flaw; see, or with --yes record, that it and all that descends from it is recalled.

    The champion goes back to the newest one that learned from none of it, and the same command goes on from
    there with the remaining samples; with seal=reopen if its sealed suites were opened. Nothing is deleted.
    """
    from flywheel.lineage.recall import recall

    report = recall(
        directory_of(options, changes=True),
        why=options.why,
        generation=options.generation,
        where=options.where,
        strict=options.strict,
        yes=options.yes,
    )
    return reply(options, report, lines(report))


def lines(report: RecallReport) -> Iterator[str]:
    """The report for people."""
    unasked = [
        f"  not asked    the samples made in {number}: they were pruned, the condition needs what is gone; "
        f"--generation {number} recalls all of them"
        for number in report.unasked
    ]
    if not (report.generations or report.suspect or report.samples.total):
        of = "nothing that is left" if unasked else "nothing"
        yield f"{report.run}: nothing to recall; {report.by} names {of}, or all is recalled already."
        yield from unasked
        return
    yield f"{report.run}: {'recalled' if report.done else 'would recall'} {report.by}"
    yield f"  champion     {_change(report.champion)}"
    if report.frontier != report.champion:
        yield f"  frontier     {_change(report.frontier)}"
    for g in report.generations:
        yield f"  generation   {g.generation} {g.status}, {by_text(g.by)}"
    for g in report.suspect:
        yield f"  suspect      {g.generation} {g.status}, {by_text(g.by)}; --strict recalls it"
    for b in report.samples.batches:
        yield f"  samples      {b.recalled} of {b.of} {b.origin}, made in {b.made_in}"
    for c in report.corpora:
        yield f"  corpus       of generation {c.generation}: {c.recalled} of its {c.of} rows"
    for carry in report.carries:
        yield f"  carry        of the {carry.component}, {_left(carry)}"
    yield from _memory(report)
    if report.ends is not None:
        yield f"  ends         generation {report.ends}, which was under way"
    for fork in report.forks:
        yield f"  fork         {fork_text(fork)}"
    for run in report.unread:
        yield f"  not asked    {run.run}, which cannot be read: {run.why}"
    yield from unasked
    if report.done:
        is_ahead = report.frontier.after != report.champion.after
        goes_on = goes_on_text("frontier" if is_ahead else "champion", report.needs_reopen)
        yield f"Nothing was deleted. {goes_on}"
    else:
        yield "Nothing is recorded yet: add --yes to do it. Nothing will be deleted."


def _memory(report: RecallReport) -> Iterator[str]:
    if report.memory and not report.memory.is_there:
        yield f"  memory       {report.memory.path} is not there: the trials in it are not retired"
    elif report.memory and report.memory.generations:
        numbers = ", ".join(map(str, report.memory.generations))
        yield f"  memory       {report.memory.path}: the trials of generation {numbers}"


def _change(change: ChampionChange) -> str:
    before, after = _number(change.before), _number(change.after)
    return f"stays {after}" if before == after else f"{before} -> {after}"


def _left(carry: CarryChange) -> str:
    if carry.left_by is None:
        return "given up: every one was left by what the flaw reached"
    return f"as generation {carry.left_by} left it"


def _number(number: int | None) -> str:
    return "none: a new genesis" if number is None else f"generation {number}"
