"""The page: facts and charts into one HTML file that needs nothing else.

Only the scripts whose hashes its Content-Security-Policy names run, and nothing can be loaded or sent: what
samples, names and reasons hold is escaped, and would do nothing if it were not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from flywheel.config.credentials import without_secrets_in_html
from flywheel.errors import MissingExtra
from flywheel.lineage.text import estimate_text, number_text, short
from flywheel.records import Role
from flywheel.report import charts
from flywheel.report.compare import Comparison
from flywheel.report.facts import RunFacts
from flywheel.report.figures import Curve, difference_text
from flywheel.report.generations import GenerationDetail
from flywheel.report.headline import duration_text
from flywheel.report.marks import BY_STATUS, MARKS
from flywheel.report.vega import javascript
from flywheel.views import STYLE, View, html_of

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_MOST_CURVES = 9
_MOST_COLUMNS = 6
_MOST_SEALED = 12
_MOST_VIEW_BYTES = 3 << 20
"""Of all samples' views together; what is beyond is left out, and said so."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart on the page, and the same as a table."""

    id: str
    title: str
    says: str
    """What is to be seen in it, for people who do not see it."""
    spec: dict[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_MOST_ROWS = 200


def chart(
    id: str, title: str, says: str, made: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> Chart:
    """A chart with its table; of long ones the last rows."""
    cells = tuple(tuple(str(cell) for cell in row) for row in rows[-_MOST_ROWS:])
    if len(rows) > _MOST_ROWS:
        title_note = f" The table has the last {_MOST_ROWS} of {len(rows)} rows."
        says += title_note
    return Chart(id, title, says, made.to_dict(validate=False), tuple(columns), cells)


def run_page(facts: RunFacts) -> str:
    """The report of one run. Raises MissingExtra."""
    rare = [curve for curve in facts.curves if curve.role == Role.SEALED]
    frequent = [curve for curve in facts.curves if curve not in rare]
    groups = {
        "progress": list(_progress(frequent)),
        "sealed": list(_sealed(rare, facts.champions)),
        "controls": list(_controls(facts)),
        "training": list(_training(facts)),
        "tuning": list(_tuning(facts)),
        "audits": list(_audits(facts)),
        "budget": list(_budget(facts)),
    }
    return render(
        "report.html",
        facts.name,
        groups,
        facts=facts,
        shown={detail.number for detail in facts.details},
        strip=_strip(facts),
        hidden_curves=max(0, len(frequent) - _MOST_CURVES),
    )


def comparison_page(comparison: Comparison) -> str:
    """Several runs on one page. Raises MissingExtra."""
    groups = {
        "by_generation": list(_beside(comparison, by_time=False)),
        "by_time": list(_beside(comparison, by_time=True)),
    }
    return render("compare.html", "Runs compared", groups, comparison=comparison)


def _beside(comparison: Comparison, *, by_time: bool) -> Iterator[Chart]:
    for k, (suite, metric) in enumerate(comparison.figures):
        found = [(run, curve) for run in comparison.runs if (curve := run.curve(suite, metric))]
        series = {
            run.name: [
                (run.seconds_by[p.generation] if by_time else p.generation, p.estimate) for p in curve.points
            ]
            for run, curve in found
        }
        x = "wall time, s" if by_time else "generation"
        says = f"{metric} on the suite {suite} of {len(series)} runs by {x}."
        rows = [
            (name, f"{x:.0f}", estimate_text(estimate))
            for name, points in series.items()
            for x, estimate in points
        ]
        made = charts.runs_side_by_side(series, x, found[0][1].unit, whole=not by_time)
        place = "time" if by_time else "generation"
        yield chart(
            f"{place}-{k}",
            f"{suite}: {metric} by {place}",
            says,
            made,
            ("run", x, f"{metric} [95% interval]"),
            rows,
        )


def _strip(facts: RunFacts) -> list[GenerationDetail]:
    """The generations whose samples stand side by side: some from all over the run, the newest among them."""
    made = [d for d in facts.details if d.samples.kept or d.samples.dropped][::-1]
    return made[:: -(-len(made) // _MOST_COLUMNS) or 1][::-1]


def render(template: str, title: str, groups: Mapping[str, Sequence[Chart]], **values: Any) -> str:
    """A template's page with its charts. Raises MissingExtra."""
    specs = [{"id": one.id, "spec": one.spec} for group in groups.values() for one in group]
    scripts = [javascript()] if specs else []
    scripts.append(_file("page.js"))
    style = f"{_file('style.css')}\n{STYLE}"
    html = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            charts=groups,
            specs=_json(specs),
            style=_markup(style),
            policy=_policy(scripts),
            view=_view_maker(),
            marks=MARKS,
            **values,
        )
    )
    elements = "\n".join(f"<script>{script}</script>" for script in scripts)
    return f"{_without_secrets(html)}{elements}\n</body>\n</html>\n"


def _without_secrets(html: str) -> str:
    """Without the values of variables that are called as credentials are, however they are written in it."""
    return without_secrets_in_html(html, lambda value: _escaped(json.dumps(value, ensure_ascii=False)[1:-1]))


def fragment(template: str, **values: Any) -> str:
    """A piece of the page with its style, e.g. for a frame in a notebook. Raises MissingExtra."""
    style = _markup(f"{_file('style.css')}\n{STYLE}")
    environment = _environment()
    body = environment.get_template(template).render(view=_view_maker(), **values)
    head = environment.from_string(_FRAGMENT).render(style=style)
    return _without_secrets(head + body)


_FRAGMENT = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark"><title>flywheel</title><style>{{ style }}</style>
"""


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; base-uri 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: Any) -> Markup:
    """JSON that may stand in a script element: no sign of it can end the element or begin a comment."""
    return _markup(_escaped(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)))


def _escaped(text: str) -> str:
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)


def _file(name: str) -> str:
    return (resources.files("flywheel.report") / "templates" / name).read_text("utf-8")


@cache
def _environment() -> Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("Jinja", "report") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "estimate": estimate_text,
        "number": number_text,
        "short": short,
        "duration": duration_text,
        "difference": difference_text,
        "mark": lambda status: BY_STATUS[status],
        "quoted": shlex.quote,
        "percent": lambda share: f"{share:.0%}",
    }
    return environment


def _view_maker() -> Callable[[View, str], Markup]:
    """Makes HTML of views until the page would be too large."""
    left = _MOST_VIEW_BYTES

    def make(view: View, title: str) -> Markup:
        nonlocal left
        html = html_of(view, title)
        left -= len(html)
        return _markup(html if left > 0 else "<p>Left out: the page would be too large.</p>")

    return make


def _progress(curves: Sequence[Curve]) -> Iterator[Chart]:
    for k, curve in enumerate(curves[:_MOST_CURVES]):
        first, last = curve.points[0], curve.points[-1]
        says = (
            f"{curve.metric} on the suite {curve.suite} over {len(curve.points)} generations: "
            f"{estimate_text(first.estimate)} at generation {first.generation}, "
            f"{estimate_text(last.estimate)} at generation {last.generation}."
        )
        rows = [(p.generation, p.status, p.note or "-", estimate_text(p.estimate)) for p in curve.points]
        columns = ("generation", "status", "note", f"{curve.metric} [95% interval]")
        role = f" ({curve.role})" if curve.role and curve.role != curve.suite else ""
        made = charts.progress(curve, legend=False, height=300 if k == 0 else 170)
        yield chart(f"progress-{k}", f"{curve.suite}{role}: {curve.metric}", says, made, columns, rows)


def _sealed(curves: Sequence[Curve], names: Mapping[int, str]) -> Iterator[Chart]:
    """A chart for each unit."""
    for k, unit in enumerate(dict.fromkeys(curve.unit for curve in curves)):
        ours = [curve for curve in curves if curve.unit == unit][:_MOST_SEALED]
        rows = [
            (curve.title, names[p.generation], estimate_text(p.estimate))
            for curve in ours
            for p in curve.points
            if p.generation in names
        ]
        says = f"What champions reach on {len(ours)} sealed figures: " + "; ".join(
            ": ".join(row) for row in rows[:4]
        )
        title = "Sealed suites" if unit is None else f"Sealed suites, in {unit}s"
        columns = ("suite: metric", "generation", "value [95% interval]")
        if rows:
            yield chart(f"sealed-{k}", title, says, charts.sealed(ours, names), columns, rows)


def _controls(facts: RunFacts) -> Iterator[Chart]:
    for k, table in enumerate(facts.controls):
        says = f"How far the loop is ahead of each arm with a part off, on {table.metric} of {table.suite}."
        columns = ("arm", "loop", "arm", "loop - arm [95%]", "FLOPs, arm / loop", "seeds")
        rows = [
            (
                row.arm,
                _value(row.loop, table.unit),
                _value(row.mean, table.unit),
                difference_text(row.difference) if row.seeds > 1 else "one seed: no interval",
                "-" if row.flops_ratio is None else f"{row.flops_ratio:.2f}",
                row.seeds,
            )
            for row in table.rows
        ]
        title = f"The loop beside arms with a part off, {table.budget} a seed"
        yield chart(f"controls-{k}", title, says, charts.controls(table), columns, rows)


def _value(value: float, unit: str | None) -> str:
    return f"{value:.1%}" if unit is None else f"{value:.1f}"


def _training(facts: RunFacts) -> Iterator[Chart]:
    for k, curve in enumerate(facts.training):
        first, last = curve.values[0], curve.values[-1]
        says = f"{curve.name} over {curve.steps[-1]} optimiser steps, from {first:.4g} to {last:.4g}."
        ends = {g: (s, v) for g, s, v in zip(curve.generations, curve.steps, curve.values, strict=True)}
        rows = [(g, s, f"{v:.4g}") for g, (s, v) in ends.items()]
        columns = ("generation", "last step", curve.name)
        yield chart(f"training-{k}", curve.name, says, charts.training(curve), columns, rows)


def _tuning(facts: RunFacts) -> Iterator[Chart]:
    points = [trial for study in facts.studies for trial in study.trials]
    if any(trial.score is not None for trial in points):
        says = f"The dev score of {len(points)} trials in {len(facts.studies)} generations."
        rows = [
            (
                t.generation,
                t.number,
                "-" if t.score is None else f"{t.score:.1%}",
                t.kind,
                t.settings_text,
                t.failure or "-",
            )
            for t in points
        ]
        columns = ("generation", "trial", "score on dev", "outcome", "settings", "failure")
        yield chart("trials", "Trials", says, charts.trials(facts.studies), columns, rows)
    known = [study for study in facts.studies if study.importance]
    if known:
        shares = known[-1].importance
        title = f"What made scores differ, generation {known[-1].generation}"
        table = [(name, f"{share:.1%}") for name, share in shares.items()]
        most = max(shares, key=lambda name: shares[name])
        says = f"The setting that explains most is {most}, {shares[most]:.0%}."
        yield chart("importance", title, says, charts.importance(shares), ("setting", "share"), table)


def _audits(facts: RunFacts) -> Iterator[Chart]:
    known = [row for row in facts.audits if row.precision]
    if known:
        says = "The share of right samples among those kept, by generation, with its interval."
        rows = [
            (r.generation, estimate_text(r.precision), r.graded, r.fault or "-") for r in known if r.precision
        ]
        columns = ("generation", "right among those kept", "graded", "fault")
        yield chart("audits", "Right among the samples kept", says, charts.audits(known), columns, rows)


def _budget(facts: RunFacts) -> Iterator[Chart]:
    if facts.looks and facts.alpha:
        says = f"{len(facts.looks)} looks were charged {facts.looks[-1].charged:.3g} of {facts.alpha:g}."
        rows = [
            (
                r.number,
                r.generation,
                f"{r.level:.3g}",
                _evidence(r.p_value, r.e_value),
                r.outcome,
                f"{r.charged:.3g}",
            )
            for r in facts.looks
        ]
        columns = ("look", "generation", "level", "evidence", "outcome", "charged so far")
        made = charts.budget(facts.looks, facts.alpha)
        yield chart("budget", "Error budget spent by looks at the gate", says, made, columns, rows)


def _evidence(p_value: float | None, e_value: float | None) -> str:
    return f"p {p_value:.3g}" if p_value is not None else "-" if e_value is None else f"e {e_value:.3g}"
