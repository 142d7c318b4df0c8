"""The table of a run's generations, with what is to be said of the run below it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from flywheel.lineage.status import (
    BudgetStatus,
    Final,
    Metrics,
    PromotionStatus,
    audit_text,
    gate_beside_sealed_text,
    held_out,
    held_out_text,
    is_untested,
    metrics,
)
from flywheel.lineage.text import estimate_text, opened_text
from flywheel.records import Interval
from flywheel.storage.policy import EACH
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers.console import FILE_WIDTH, printable
from flywheel.trackers.event_text import COLOURS

_SHOWN = 60
_FIXED_WIDTH, _SUITE_WIDTH = 46, 16


def generations_table(state: RunState, width: int = FILE_WIDTH) -> Table:
    """Generations: verdict, what each was made from, metrics by suite with intervals, cost.

    Of many, the last ones and the champion. Where ``width`` columns are too few, not what each was made from.
    """
    hidden = max(0, len(state.generations) - _SHOWN)
    shown = [g for g in state.generations[:hidden] if g is state.champion] + state.generations[hidden:]
    measured = [metrics(g, state) for g in shown]
    suites = list(dict.fromkeys((s, _telling(by_suite[s])) for by_suite in measured for s in by_suite))
    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    statuses = [_status_cell(g, state) for g in shown]
    longer = max([len(cell) - len(Status.PROMOTED) for cell in statuses if "no test" in cell] + [0])
    made_from = width >= _FIXED_WIDTH + longer + _SUITE_WIDTH * (len(suites) + any(g.audit for g in shown))
    origin = ("init", "data by") if made_from else ()
    audited = ("right",) if any(g.audit for g in shown) else ()
    for name in ("gen", "status", *origin, "rows", *audited, *(printable(suite) for suite, _ in suites), "s"):
        is_left = name in ("status", *origin)
        table.add_column(name, justify="left" if is_left else "right", no_wrap=True)
    for g, by_suite, status in zip(shown, measured, statuses, strict=True):
        table.add_row(
            f"{'*' if g is state.champion else '>' if g in state.ahead[-1:] else ' '}{g.number}",
            status,
            *((g.init or "-", _maker_text(g)) if made_from else ()),
            str(g.curate.facts.rows) if g.curate else "-",
            *([_audit_cell(g)] if audited else []),
            *(_estimate_cell(by_suite, *names) for names in suites),
            f"{g.seconds:.0f}",
        )
    names = printable(", ".join(dict.fromkeys(metric for _, metric in suites)))
    notes = ["* champion"] if state.champion else []
    notes += ["> frontier"] if state.ahead else []
    notes += [f"{names} with 95% interval"] if names else []
    notes += ["right: of the rows kept, by the audit"] if audited else []
    notes += [f"the last {_SHOWN} of {len(state.generations)} generations, --json has all"] if hidden else []
    lines = ["; ".join(notes)] if notes else []
    lines += [str(PromotionStatus.of(state))] if state.promotion.rule != EACH else []
    if state.looks and (budget := BudgetStatus.of(state)):
        lines.append(str(budget))
    if state.times_opened:
        lines.append(opened_text(state.times_opened))
        lines += map(printable, gate_beside_sealed_text(state))
    if final := Final.of(state):
        lines.append(printable(final))
    if state.seconds:
        lines.append(f"spent {state.spent}")
    lines += map(printable, audit_text(state))
    if (recorded := held_out(state)) is not None:
        lines.append(printable(held_out_text(recorded)))
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _audit_cell(generation: Generation) -> Text:
    """Precision of what it kept; in red where the audit finds fault with it."""
    facts = generation.audit.facts if generation.audit else None
    if facts is None or facts.precision is None:
        return Text("unknown" if facts else "")
    return Text(estimate_text(facts.precision, "\n"), "bold red" if facts.fault else "")


def _maker_text(generation: Generation) -> str:
    """Who made its data."""
    if generation.parent is not None:
        return f"gen {generation.parent}"
    return "people" if "curate" in generation.stages else "-"


def _status_cell(generation: Generation, state: RunState) -> Text:
    """A generation's status and flags; of a champion by ``promotion=greedy`` that it had no test."""
    text = Text(str(generation.status), COLOURS[generation.status])
    text.append(", no test" if is_untested(generation, state) else "", "yellow")
    flags = flags_text(generation.recalled, generation.suspect, generation.abandoned)
    return text.append(flags, "magenta")


def flags_text(recalled: bool, suspect: bool, abandoned: bool) -> str:
    """What is said beside a verdict."""
    flags = {"abandoned": abandoned, "recalled": recalled, "suspect": suspect}
    return "".join(f" {flag}" for flag, holds in flags.items() if holds)


def _telling(by_metric: Mapping[str, Interval]) -> str:
    """The metric to show where there is room for one: how far up a ladder, else the mean."""
    return next((metric for metric, number in by_metric.items() if number.unit), min(by_metric))


def _estimate_cell(measured: Metrics, suite: str, metric: str) -> str:
    number = measured.get(suite, {}).get(metric)
    return estimate_text(number, "\n") if number else ""
