"""A model card (Mitchell et al., 2019) as the Hugging Face hub reads it: YAML header, then Markdown.

The header's ``model-index`` follows the hub's ``modelcard.md``; values are fractions, as recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flywheel.lineage.data import DataShare
from flywheel.lineage.record import Record
from flywheel.lineage.show import Shown
from flywheel.lineage.status import estimates, held_out_text
from flywheel.lineage.text import estimate_text, opened_text
from flywheel.storage.events import Recalled
from flywheel.storage.policy import GREEDY, Promotion
from flywheel.storage.state import Generation


def model_card(record: Record, report: Shown, ancestors: Sequence[Generation]) -> str:
    """The card of a generation, from ``show``'s report of it and its ancestry."""
    parts = [
        _header(report),
        f"# {_name(report)}",
        "\n".join(_summary(record.name, report)),
        "## Evaluation\n\n" + _evaluation(report),
        "## Data\n\n" + _data(report),
        "## How it was made\n\n" + "\n".join(_making(report)),
        "## Lineage\n\n" + _lineage(record, ancestors),
        "## Known recalls\n\n" + "\n".join(_recalls(record, report, ancestors)),
        "## Limits\n\n" + "\n".join(_limits(report)),
        "## Use and check\n\n" + _use(record, report),
    ]
    return "\n\n".join(parts) + "\n"


def _name(report: Shown) -> str:
    return f"{report.recipe}, generation {report.generation}"


def _header(report: Shown) -> str:
    import yaml

    results = [
        {
            "task": {"type": "other", "name": report.recipe},
            "dataset": {"type": report.recipe, "name": suite, "split": suite},
            "metrics": [
                {"type": metric, "value": number.value, "name": f"{metric} {estimate_text(number)}"}
                for metric, number in by_metric.items()
            ],
        }
        for suite, by_metric in report.metrics.items()
    ]
    flags = [flag.replace(" ", "-") for flag in report.flags if flag != "champion"]
    header: dict[str, Any] = {
        "library_name": "flywheel",
        "tags": ["flywheel", "self-improving", str(report.recipe), *flags],
    }
    if results:
        header["model-index"] = [{"name": _name(report), "results": results}]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---"


def _summary(name: str, report: Shown) -> Iterator[str]:
    if "recalled" in report.flags:
        yield "> **Recalled: do not use it.** It was made from flawed data; see *Known recalls*.\n"
    if "suspect" in report.flags:
        yield "> **Suspect.** A recall reaches it through grading, settings or an opponent; see below.\n"
    if Promotion.of(report.config).rule == GREEDY:
        yield "> **Not tested.** The run promoted by `promotion=greedy`: no test, the higher mean on dev.\n"
    yield (
        f"A `{report.model.get('_target_', 'model')}` trained by flywheel, a self-improving loop, in "
        f"the run `{name}` of the recipe `{report.recipe}`. "
        f"Verdict: {report.status}, {report.reason}."
    )


def _evaluation(report: Shown) -> str:
    rows = [(suite, metric, estimate_text(number)) for suite, metric, number in estimates(report.metrics)]
    text = _table(("suite", "metric", "value [95% interval]"), rows) if rows else "It was not evaluated."
    verdict = report.verdict
    text += f"\n\nThe gate: {_plain(verdict.reason)}." if verdict else ""
    for one in report.screened:
        text += f"\n\nOn dev beside generation {one.generation}: {one.effect:+.2%} (which is no verdict)."
    for alarm in report.alarms:
        text += f"\n\nThe guard {alarm.guard} ({alarm.action}), apart from the gate: {_plain(alarm.reason)}."
    text += f"\n\nBeside its champion: {_plain(str(report.final))}." if report.final else ""
    opened = report.sealed_openings
    text += f"\n\n{opened_text(opened).capitalize()}." if opened else ""
    held_out = report.held_out and _plain(held_out_text(report.held_out))
    return text + (f"\n\nItems: {held_out}." if held_out else "")


def _data(report: Shown) -> str:
    rows = [(_origin_text(entry), entry.made_in, entry.rows, entry.drawn) for entry in report.data.by_origin]
    if not rows:
        return "It was not trained in this run: its weights were taken as they are."
    corpus = f"\n\nThe corpus is identified by `{report.data.corpus}`, a hash of its sample ids in order."
    return _table(("origin", "made in", "samples", "drawn"), rows) + _DRAWN + corpus


_DRAWN = (
    "\n\n*Drawn* counts each sample as often as the corpus has it, which is what the fit was given. A fit of "
    "several epochs saw it more often; one of fewer steps than the corpus has batches may have seen it less "
    "often or never."
)


def _origin_text(entry: DataShare) -> str:
    if entry.origin == "human":
        return f"human: {_plain(str(entry.source))}"
    if entry.made_by_generation is None:
        return f"made by the rival {_plain(str(entry.rival))}, weights from elsewhere"
    return f"made by generation {entry.made_by_generation}"


def _making(report: Shown) -> Iterator[str]:
    init, batch, cost = report.init, report.batch, report.cost
    start = "-" if init is None else init.init
    if init and init.generation is not None:
        start += f", generation {init.generation}"
    yield f"- init: {start}; {cost.steps} steps, {cost.seconds:.0f} s"
    yield "- settings: " + ", ".join(f"`{key}={value}`" for key, value in report.settings.items())
    if batch and batch.grader:
        yield f"- grader: {batch.grader}, version `{batch.version or 'unknown'}`"
    yield f"- seed: {report.seeds.run}"
    yield f"- {Promotion.of(report.config)}"
    for session in report.sessions:
        for name, tree in session.checkouts.items():
            dirty = " with uncommitted changes, which the run keeps" if tree["dirty"] else ""
            yield f"- code ({name}): commit `{tree['commit']}`{dirty}"
        versions = ", ".join(f"{name} {v}" for name, v in (session.versions or {}).items() if v)
        yield f"- environment: {session.machine}, Python {session.python}, {versions}"


def _lineage(record: Record, ancestors: Sequence[Generation]) -> str:
    rows = []
    for g in ancestors:
        verdict = ", ".join([str(g.status), *record.flags(g.number)])
        rows.append((g.number, "-" if g.parent is None else g.parent, verdict, g.reason))
    return _table(("generation", "parent", "verdict", "why"), rows)


def _recalls(record: Record, report: Shown, ancestors: Sequence[Generation]) -> Iterator[str]:
    """Every recall of the run, and whether it touches this generation or those it came from."""
    numbers = {generation.number for generation in ancestors}
    recalls = [event for event in record.events if isinstance(event, Recalled)]
    origin = record.state.created.forked_from if record.state.created else None
    if origin and origin.recalled:
        samples = len(record.store.table(origin.recalled))
        yield (
            f"- Inherited from {_plain(origin.run)}, of which generation {origin.generation} was "
            f"forked: {samples} samples that were recalled there before. No corpus of this run has any."
        )
    elif not recalls:
        yield f"None at ledger head `{record.head}`."
    for event in recalls:
        touched = sorted(numbers & {*event.generations, *event.suspect})
        names = ", ".join(f"generation {number}" for number in touched)
        effect = f"touches {names}" if touched else "touches nothing that this generation came from"
        yield f"- {_plain(event.by)}: {_plain(event.why)}. It {effect}."


def _limits(report: Shown) -> Iterator[str]:
    drawn = [(entry.drawn, entry.origin) for entry in report.data.by_origin]
    total = sum(count for count, _ in drawn)
    machine = sum(count for count, origin in drawn if origin == "generated")
    if machine:
        yield (
            f"- {machine / total:.0%} of what was drawn for its corpus was made by earlier generations of "
            "itself: their mistakes may have been learned, and are not visible in the loss."
        )
    yield "- The numbers hold for the recipe's own suites. Nothing else was measured."
    if "no test" in report.flags:
        yield (
            "- It was chosen by its higher mean on dev, without a test (`promotion=greedy`): its score there "
            "is optimistic, and the difference may be chance."
        )
    if report.status == "advanced":
        yield (
            "- It is no champion: it did no shown harm on dev, where it was chosen; no gate has certified it."
        )
    if report.verdict and report.status == "promoted":
        yield (
            "- It was chosen by its score on the gate's items, so that its score there is optimistic. "
            "A sealed suite, where one is listed, decided nothing."
        )
    if report.status == "final":
        yield (
            "- It was trained on the labels of the items that judged its champion, so that no gate or guard "
            "could judge it. That it is better is shown by the sealed suites, or not at all."
        )
    yield "- No bias, safety or robustness evaluation is part of the loop."


def _use(record: Record, report: Shown) -> str:
    return (
        "```python\nfrom safetensors.torch import load_file\n\n"
        'weights = load_file("model.safetensors")\n```\n\n'
        "`config.json` names the model's class and arguments; load its state dict from `weights`. Check the "
        "bundle with\n`python -m flywheel verify-bundle DIR`, and `--key PUB` if it was signed.\n\n"
        f"- weights: `{report.weights}`\n- ledger head: `{record.head}`"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return _plain(str(value)).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text of a recipe or a person on one line, its Markdown and HTML inert."""
    return " ".join(text.split()).replace("<", "&lt;")
