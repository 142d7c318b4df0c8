"""The charts, by Altair: each from facts, whole by itself, so that a notebook shows the same as the page.

Nothing is told by colour alone: statuses have shapes, series have strokes and shapes. A chart is as wide as
its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flywheel.errors import MissingExtra
from flywheel.lineage.text import estimate_text
from flywheel.records import Interval
from flywheel.report.marks import BY_STATUS, DASHES, MARKS, SERIES, SHAPES

if TYPE_CHECKING:
    from altair import Chart, LayerChart

    from flywheel.report.checks import AuditRow, LookRow
    from flywheel.report.controls import ControlTable
    from flywheel.report.figures import Curve
    from flywheel.report.training import TrainingCurve
    from flywheel.report.tuning import Study, TrialPoint

Rows = list[dict[str, Any]]
_HEIGHT, _SMALL = 280, 180
_DIGITS = 6
_MOST_TICKS = 15


def altair() -> Any:
    """The library. Raises MissingExtra."""
    try:
        import altair
    except ImportError as error:
        raise MissingExtra("Altair", "report") from error
    return altair


def progress(curve: Curve, *, legend: bool = True, height: int = _HEIGHT) -> LayerChart:
    """A metric of a suite over generations: each with its interval, the champions as a step line."""
    alt = altair()
    unit = curve.unit
    rows: Rows = [
        {
            "generation": p.generation,
            "status": p.status,
            "text": estimate_text(p.estimate),
            "note": p.note or "-",
            **_bounds(p.estimate),
        }
        for p in curve.points
    ]
    used = {p.status for p in curve.points}
    marks = [mark for mark in MARKS if mark.status in used]
    names = [mark.status for mark in marks]
    key = alt.Legend(title=None, orient="bottom", symbolOpacity=1) if legend else None
    x = _generations(alt, [*(p.generation for p in curve.points), *(number for number, _ in curve.in_force)])
    y = alt.Y("value:Q", title=None, scale=_scale(alt, rows, unit), axis=_axis(alt, unit))
    tooltip = [
        alt.Tooltip("generation:Q", title="generation"),
        alt.Tooltip("status:N", title="status"),
        alt.Tooltip("text:N", title=curve.metric),
        alt.Tooltip("note:N", title="note"),
    ]
    base = alt.Chart(_data(alt, rows)).encode(x=x)
    status = {"domain": names}
    points = base.mark_point(filled=True, size=75, opacity=1).encode(
        y=y,
        shape=alt.Shape("status:N", legend=key, scale=alt.Scale(**status, range=[m.shape for m in marks])),
        color=alt.Color("status:N", legend=key, scale=alt.Scale(**status, range=[m.colour for m in marks])),
        tooltip=tooltip,
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.45).encode(
        y=alt.Y("low:Q", title=None), y2="high:Q", color=points.encoding.color
    )
    line: Rows = [{"generation": number, **_bounds(estimate)} for number, estimate in curve.in_force]
    green = BY_STATUS["promoted"].colour
    steps = (
        alt.Chart(_data(alt, line))
        .mark_line(interpolate="step-after", strokeWidth=2, color=green, opacity=0.8)
        .encode(x=x, y="value:Q")
    )
    names_of = [row for row in rows if "in force" in row["note"] or "frontier" in row["note"]]
    labels = (
        alt.Chart(_data(alt, names_of))
        .mark_text(dy=-13, fontSize=11, fontWeight=600)
        .encode(x=x, y="value:Q", text="note:N")
    )
    return _layered(alt, height, steps, bars, points, labels)


def _bounds(estimate: Interval) -> dict[str, float]:
    return {name: round(float(getattr(estimate, name)), _DIGITS) for name in ("value", "low", "high")}


def _generations(alt: Any, numbers: Iterable[int]) -> Any:
    return _whole(alt, "generation:Q", "generation", numbers)


def _whole(alt: Any, field: str, title: str, numbers: Iterable[int]) -> Any:
    """An axis of whole numbers."""
    first, last = min(numbers := list(numbers), default=0), max(numbers, default=0)
    step = next(
        s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if (last - first) / s <= _MOST_TICKS
    )
    ticks = list(range(-(-first // step) * step, last + 1, step))
    scale = alt.Scale(domain=[first, max(last, first + 1)], nice=False, zero=False, padding=26)
    return alt.X(field, title=title, scale=scale, axis=alt.Axis(values=ticks, format="d", labelOverlap=True))


def _axis(alt: Any, unit: str | None) -> Any:
    return alt.Axis(format="~%", tickCount=6) if unit is None else alt.Axis(title=f"{unit}s", tickCount=6)


def _scale(alt: Any, rows: Rows, unit: str | None) -> Any:
    """As far as intervals reach, with some room above for labels."""
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    room = 0.06 * (high - low or 1)
    bottom = max(0.0, low - room) if low >= 0 else low - room
    top = high + 2 * room
    return alt.Scale(domain=[round(bottom, _DIGITS), round(top, _DIGITS)], nice=False, zero=False)


def sealed(curves: Sequence[Curve], names: Mapping[int, str], *, legend: bool = True) -> LayerChart:
    """What champions reach on the sealed suites, which nothing was chosen by: a row for each figure.

    ``names``: what each generation is called, e.g. ``{0: "first champion, generation 0"}``.
    """
    alt = altair()
    rows: Rows = [
        {
            "figure": curve.title,
            "who": names[p.generation],
            "text": estimate_text(p.estimate),
            **_bounds(p.estimate),
        }
        for curve in curves
        for p in curve.points
        if p.generation in names
    ]
    kinds = list(names.values())
    marks = [_SEALED[k % len(_SEALED)] for k in range(len(kinds))]
    key = alt.Legend(title=None, orient="bottom", symbolOpacity=1, labelLimit=300) if legend else None
    unit = curves[0].unit
    title = None if unit is None else f"{unit}s"
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, padding=12), axis=_axis(alt, unit))
    y = alt.Y("figure:N", sort=None, title=None, axis=alt.Axis(labelLimit=170, ticks=False, grid=True))
    base = alt.Chart(_data(alt, rows)).encode(y=y)
    points = base.mark_point(filled=True, size=85, opacity=1).encode(
        x=x,
        shape=alt.Shape(
            "who:N", legend=key, scale=alt.Scale(domain=kinds, range=[shape for shape, _ in marks])
        ),
        color=alt.Color(
            "who:N", legend=key, scale=alt.Scale(domain=kinds, range=[colour for _, colour in marks])
        ),
        tooltip=["figure:N", "who:N", alt.Tooltip("text:N", title="value")],
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.45).encode(
        x=alt.X("low:Q", title=title), x2="high:Q", color=points.encoding.color
    )
    return _layered(alt, 32 * len(curves) + 84, bars, points)


_SEALED = (
    ("circle", SERIES[5]),
    ("diamond", BY_STATUS["promoted"].colour),
    ("square", BY_STATUS["final"].colour),
)


def training(curve: TrainingCurve, *, height: int = _SMALL) -> LayerChart:
    """What the fits logged, by one increasing step; a rule where a generation's fit begins."""
    alt = altair()
    columns = (curve.generations, curve.steps, curve.values)
    rows: Rows = [{"generation": g, "step": s, "value": _short(v)} for g, s, v in zip(*columns, strict=True)]
    starts = dict(zip(curve.generations[::-1], curve.steps[::-1], strict=True))
    begins: Rows = [{"generation": g, "step": s} for g, s in sorted(starts.items())]
    logarithmic = min(curve.values) > 0 and max(curve.values) > 50 * min(curve.values)
    scale = alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)
    x = alt.X("step:Q", title="optimiser step of the run", axis=alt.Axis(format="~s"))
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(format="~g", tickCount=5))
    rules = (
        alt.Chart(_data(alt, begins)).mark_rule(strokeDash=[2, 3], opacity=0.35, color="#788390").encode(x=x)
    )
    line = (
        alt.Chart(_data(alt, rows))
        .mark_line(strokeWidth=1.4, color=SERIES[0])
        .encode(x=x, y=y, detail="generation:N")
    )
    tips = (
        alt.Chart(_data(alt, rows))
        .mark_point(size=60, opacity=0)
        .encode(x=x, y=y, tooltip=["generation:Q", "step:Q", "value:Q"])
    )
    return _layered(alt, height, rules, line, tips)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


_KINDS = {
    "chosen": ("diamond", BY_STATUS["promoted"].colour),
    "whole": ("circle", SERIES[0]),
    "pruned": ("triangle-down", SERIES[1]),
}


def trials(studies: Sequence[Study], *, legend: bool = True, height: int = _HEIGHT) -> LayerChart:
    """The dev score of each trial, by generation; what was chosen has a shape of its own."""
    alt = altair()
    points = [trial for study in studies for trial in study.trials if trial.score is not None]
    rows: Rows = [{"row": k, **_trial_row(trial)} for k, trial in enumerate(points)]
    best: Rows = [row for row in rows if row["kind"] == "chosen"]
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    key = alt.Legend(title=None, orient="bottom") if legend else None
    x = _whole(alt, "row:Q", "trial, in order", range(len(rows)))
    y = alt.Y("score:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format="~%"))
    dots = (
        alt.Chart(_data(alt, rows))
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x=x,
            y=y,
            shape=alt.Shape(
                "kind:N", legend=key, scale=alt.Scale(domain=kinds, range=[_KINDS[k][0] for k in kinds])
            ),
            color=alt.Color(
                "kind:N", legend=key, scale=alt.Scale(domain=kinds, range=[_KINDS[k][1] for k in kinds])
            ),
            tooltip=["generation:Q", "trial:Q", alt.Tooltip("score:Q", format=".2%"), "kind:N", "settings:N"],
        )
    )
    labels = alt.Chart(_data(alt, best)).mark_text(dy=-13, fontSize=11).encode(x=x, y=y, text="label:N")
    return _layered(alt, height, dots, labels)


def _trial_row(trial: TrialPoint) -> dict[str, Any]:
    return {
        "generation": trial.generation,
        "trial": trial.number,
        "score": round(trial.score or 0.0, _DIGITS),
        "kind": trial.kind,
        "settings": trial.settings_text,
        "label": f"gen {trial.generation}",
    }


def importance(shares: Mapping[str, float], *, most: int = 12) -> Chart:
    """How much of what made scores differ each setting explains."""
    alt = altair()
    largest = sorted(shares.items(), key=lambda pair: -pair[1])[:most]
    rows: Rows = [{"setting": name, "share": round(share, 4)} for name, share in largest]
    chart: Chart = (
        alt.Chart(_data(alt, rows))
        .mark_bar(color=SERIES[0], height={"band": 0.6})
        .encode(
            y=alt.Y("setting:N", sort=None, title=None, axis=alt.Axis(labelLimit=160, ticks=False)),
            x=alt.X(
                "share:Q", title="share of what made scores differ", axis=alt.Axis(format="~%", tickCount=5)
            ),
            tooltip=["setting:N", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(width="container", height=26 * len(rows) + 54)
    )
    return chart


def audits(rows_of: Sequence[AuditRow], *, height: int = _SMALL) -> LayerChart:
    """The share of right samples among those kept, with its interval."""
    alt = altair()
    rows: Rows = [
        {
            "generation": row.generation,
            "text": estimate_text(row.precision),
            "fault": row.fault or "none",
            "verdict": "fault found" if row.fault else "no fault",
            **_bounds(row.precision),
        }
        for row in rows_of
        if row.precision
    ]
    x = _generations(alt, (row["generation"] for row in rows))
    y = alt.Y("value:Q", title=None, scale=_scale(alt, rows, None), axis=alt.Axis(format="~%", tickCount=5))
    base = alt.Chart(_data(alt, rows)).encode(x=x)
    kinds = {"domain": ["no fault", "fault found"]}
    shapes = alt.Scale(**kinds, range=["circle", MARKS[2].shape])
    colours = alt.Scale(**kinds, range=[BY_STATUS["promoted"].colour, BY_STATUS["failed"].colour])
    legend = alt.Legend(title=None, orient="bottom", symbolOpacity=1)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y,
        shape=alt.Shape("verdict:N", scale=shapes, legend=legend),
        color=alt.Color("verdict:N", scale=colours, legend=legend),
        tooltip=["generation:Q", alt.Tooltip("text:N", title="right"), "fault:N"],
    )
    bars = base.mark_rule(opacity=0.45).encode(y="low:Q", y2="high:Q", color=points.encoding.color)
    return _layered(alt, height, bars, points)


def budget(looks: Sequence[LookRow], alpha: float, *, height: int = _SMALL) -> LayerChart:
    """What looks at the gate were charged, against the run's error budget."""
    alt = altair()
    rows: Rows = [
        {"look": r.number, "charged": _short(r.charged), "generation": r.generation, "outcome": r.outcome}
        for r in looks
    ]
    x = _whole(alt, "look:Q", "look at the gate", (r.number for r in looks))
    y = alt.Y(
        "charged:Q",
        title=None,
        scale=alt.Scale(domain=[0, alpha * 1.1], nice=False),
        axis=alt.Axis(format="~g", tickCount=5),
    )
    base = alt.Chart(_data(alt, rows)).encode(x=x, y=y)
    line = base.mark_line(interpolate="step-after", color=SERIES[5], opacity=0.7)
    kinds = {"domain": ["promoted", "not promoted", "no verdict"]}
    marks = [BY_STATUS[name] for name in ("promoted", "rejected", "unfinished")]
    legend = alt.Legend(title=None, orient="bottom")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        shape=alt.Shape("outcome:N", scale=alt.Scale(**kinds, range=[m.shape for m in marks]), legend=legend),
        color=alt.Color(
            "outcome:N", scale=alt.Scale(**kinds, range=[m.colour for m in marks]), legend=legend
        ),
        tooltip=["look:Q", "generation:Q", "outcome:N", "charged:Q"],
    )
    limit: Rows = [{"charged": alpha, "label": f"error budget {alpha:g}"}]
    rule = (
        alt.Chart(_data(alt, limit))
        .mark_rule(strokeDash=[6, 4], color=BY_STATUS["failed"].colour)
        .encode(y="charged:Q")
    )
    text = (
        alt.Chart(_data(alt, limit))
        .mark_text(align="left", dx=6, dy=10, x=0, fontSize=11)
        .encode(y="charged:Q", text="label:N")
    )
    return _layered(alt, height, line, rule, text, points)


def controls(table: ControlTable) -> LayerChart:
    """By how much the loop is ahead of each arm with a part off, with its interval over seeds."""
    alt = altair()
    scale = 100 if table.unit is None else 1
    rows: Rows = []
    for row in table.rows:
        bounds = [scale * float(x) for x in (row.difference.value, row.difference.low, row.difference.high)]
        finite = abs(bounds[1]) < 1e9  # of one seed there is no interval
        low, high = bounds[1:] if finite else (bounds[0], bounds[0])
        rows.append(
            {
                "arm": row.arm,
                "value": _short(bounds[0]),
                "low": _short(low),
                "high": _short(high),
                "seeds": row.seeds,
            }
        )
    what = "points" if table.unit is None else f"{table.unit}s"
    y = alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(labelLimit=180, ticks=False))
    title = f"loop - arm, {what} of {table.metric} on {table.suite}"
    x = alt.X("value:Q", title=title)
    base = alt.Chart(_data(alt, rows)).encode(y=y)
    bars = base.mark_rule(strokeWidth=2, color=SERIES[0], opacity=0.6).encode(
        x=alt.X("low:Q", title=title), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, color=SERIES[0], opacity=1).encode(
        x=x, tooltip=["arm:N", "value:Q", "low:Q", "high:Q", "seeds:Q"]
    )
    zero = (
        alt.Chart(_data(alt, [{"value": 0}]))
        .mark_rule(strokeDash=[4, 3], color=SERIES[5])
        .encode(x="value:Q")
    )
    return _layered(alt, 32 * len(rows) + 64, zero, bars, points)


def runs_side_by_side(
    series: Mapping[str, Iterable[tuple[float, Interval]]],
    x_title: str,
    unit: str | None,
    *,
    whole: bool = False,
    legend: bool = True,
    height: int = _HEIGHT,
) -> LayerChart:
    """One figure of several runs with its intervals: a line each, told apart by stroke and shape too.

    ``whole``: x is whole numbers.
    """
    alt = altair()
    rows: Rows = [
        {"run": name, "x": _short(x), "text": estimate_text(estimate), **_bounds(estimate)}
        for name, points in series.items()
        for x, estimate in points
    ]
    x = alt.X("x:Q", title=x_title, scale=alt.Scale(nice=False, padding=12))
    if whole:
        x = _whole(alt, "x:Q", x_title, (int(row["x"]) for row in rows))
    names = list(series)
    ranges = [(_cycled(of, len(names))) for of in (SERIES, DASHES, SHAPES)]
    colour, dash, shape = (alt.Scale(domain=names, range=one) for one in ranges)
    key = alt.Legend(title=None, orient="bottom", columns=1, labelLimit=320) if legend else None
    base = alt.Chart(_data(alt, rows)).encode(
        x=x,
        y=alt.Y("value:Q", title=None, scale=_scale(alt, rows, unit), axis=_axis(alt, unit)),
        color=alt.Color("run:N", scale=colour, legend=key),
    )
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=alt.StrokeDash("run:N", scale=dash, legend=key))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("run:N", scale=shape, legend=key),
        tooltip=["run:N", alt.Tooltip("x:Q", title=x_title), alt.Tooltip("text:N", title="value [95%]")],
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.45).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    return _layered(alt, height, lines, bars, points)


def _cycled(values: Sequence[Any], count: int) -> list[Any]:
    return [values[k % len(values)] for k in range(count)]


def _data(alt: Any, rows: Rows) -> Any:
    return alt.Data(values=rows)


def _layered(alt: Any, height: int, *parts: Any) -> LayerChart:
    chart: LayerChart = alt.layer(*parts).properties(width="container", height=height)
    return chart
