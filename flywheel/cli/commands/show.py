"""All that made one generation."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flywheel.cli.commands import add_run, directory_of, generation_word, reply
from flywheel.cli.rendering import edge_text
from flywheel.errors import ExitCode
from flywheel.lineage.text import estimate_text, opened_text, short, ungraded_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flywheel.lineage.show import Batch, Session, Shown
    from flywheel.records import Interval

_FLAGS = {"champion": "green", "frontier": "cyan", "no test": "bold yellow", "abandoned": "yellow"}
_FLAGS |= {"recalled": "bold red", "suspect": "yellow", "pruned": "dim"}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "generation",
        nargs="?",
        default="champion",
        type=generation_word,
        metavar="GEN",
        help="number, champion, last or final (champion)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--code", action="store_true", help="print the uncommitted changes, for `git apply`")
    form.add_argument("--source", metavar="MODULE", help="print the source of a module as it was run")
    form.add_argument("--json", action="store_true", help="print JSON")


def main(options: argparse.Namespace) -> int:
    """All that made a generation: data by origin, settings, code, seeds, outcomes, verdict and cost."""
    from flywheel.lineage.show import show, source, uncommitted

    directory = directory_of(options)
    if options.code:
        sys.stdout.buffer.write(uncommitted(directory, options.generation))
        return ExitCode.FINISHED
    if options.source:
        sys.stdout.buffer.write(source(directory, options.generation, options.source).encode())
        return ExitCode.FINISHED
    report = show(directory, options.generation)
    return reply(options, report, _sections(report))


def _sections(report: Shown) -> Iterator[RenderableType]:
    from flywheel.cli.rendering import grid_of, pairs, section
    from flywheel.lineage.status import estimates, held_out_text

    yield _title(report)
    yield section("made from", pairs(_origin(report)))
    yield section("data", _data(report))
    yield section("producers", _producers(report))
    yield section("audit", *_audit(report))
    yield section("settings", pairs(report.settings))
    yield section("tuned", *_tuned(report))
    rows = [(suite, metric, estimate_text(value)) for suite, metric, value in estimates(report.metrics)]
    numbers = grid_of(("suite", "metric", "value [95% interval]"), rows)
    opened = opened_text(report.sealed_openings) if report.sealed_openings else None
    held_out = held_out_text(report.held_out) if report.held_out else None
    beside = str(report.final) if report.final else None
    yield section("evaluation", numbers, beside, opened, held_out)
    if report.verdict:
        yield section("verdict", pairs({"why": report.verdict.reason, **report.verdict.numbers}))
    compared = [(f"generation {c.generation}", f"{c.effect:+.2%}", c.p_value) for c in report.screened]
    columns = ("beside", "difference", "p, if no worse")
    no_test = "promotion=greedy: no test" if "no test" in report.flags else None
    yield section("screened on dev", no_test, grid_of(columns, compared)) if compared else ""
    yield section("guards", pairs({f"{a.guard} ({a.action})": a.reason for a in report.alarms}))
    for session in report.sessions:
        yield section("session", pairs(_session(session)))
    cost, seeds = report.cost, report.seeds
    total = f"{cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU, {cost.steps} steps; "
    times = [(stage, f"{cost.stages[stage]:.2f}", str(seed)) for stage, seed in seeds.stages.items()]
    run_seed = f"the run's seed is {seeds.run}"
    yield section("stages", total + run_seed, grid_of(("stage", "seconds", "seed"), times))


def _title(report: Shown) -> RenderableType:
    from rich.text import Text

    from flywheel.storage.state import Status
    from flywheel.trackers.event_text import COLOURS

    text = Text(f"generation {report.generation}", "bold").append(f" of {report.run}  ", "")
    text.append(report.status, COLOURS[Status(report.status)])
    for flag in report.flags:
        text.append(f"  {flag}", _FLAGS[flag])
    return text.append(f"\n{report.reason}", "dim")


def _origin(report: Shown) -> dict[str, Any]:
    made_from = {
        "parent": None if report.parent is None else f"generation {report.parent}",
        "compared with": _champion(report),
        "refit of": None if report.refit_of is None else f"generation {report.refit_of}",
        "init": edge_text(report.init) if report.init else None,
        "weights": report.weights,
        "prompts": _left_out(report),
        **(_rivals(report.batch) if report.batch else {}),
        "grader": _grader(report.batch) if report.batch else "",
        **(_graders(report.batch) if report.batch else {}),
        "corpus": report.data.corpus,
        "leaked": report.data.leaked and f"{report.data.leaked} rows left out that a suite asks",
        "human share": report.data.human_share and f"{report.data.human_share:.1%} of the draws",
        "parent of": ", ".join(map(str, report.children)),
    }
    return {name: value for name, value in made_from.items() if value}


def _champion(report: Shown) -> str:
    """The champion that a turn is to beat, where that is not its parent."""
    champion = report.champion
    is_ahead = champion is not None and report.refit_of is None and champion != report.parent
    return f"generation {champion}, the champion" if is_ahead else ""


def _grader(batch: Batch) -> str:
    if batch.grader is None:
        return ""
    weights = f", with the weights {short(batch.loaded_parent)}" if batch.loaded_parent else ""
    failed = ungraded_text(batch.ungraded, batch.made, batch.reasons)
    return f"{batch.grader}, version {short(batch.version or 'unknown')}{weights}{failed}"


def _rivals(batch: Batch) -> dict[str, str]:
    """Who answered prompts beside the parent, a line each."""
    return {
        f"rival {name}": f"{rival.samples} of {batch.made} samples, of {rival.prompts} prompts; weights "
        f"{short(rival.weights)}"
        for name, rival in batch.rivals.items()
    }


def _graders(batch: Batch) -> dict[str, str]:
    """The parts of a composition of graders, a line each."""
    return {
        f"grader {name}": f"{part.grader}, version {short(part.version or 'unknown')}"
        f"{ungraded_text(part.failed, batch.made, part.reasons)}"
        for name, part in batch.parts.items()
    }


def _left_out(report: Shown) -> str:
    """How many prompts of the turn a suite asks; empty if there were none, or nothing is compared."""
    columns = report.held_out.columns if report.held_out else ()
    if report.parent is None or report.batch is None or not columns:
        return ""
    left_out = report.batch.left_out
    if left_out is None:
        return f"without the columns {', '.join(columns)}: not compared with the suites"
    return f"{left_out} left out that a suite asks"


def _data(report: Shown) -> RenderableType | None:
    from flywheel.cli.rendering import grid_of

    rows = []
    for share in report.data.by_origin:
        known = f"generation {share.made_by_generation}" if share.made_by_generation is not None else ""
        maker = ", ".join(filter(None, [known, share.rival and f"rival {share.rival}"]))
        rows.append((share.origin, share.source or "", maker, share.made_in, share.rows, share.drawn))
    return grid_of(("origin", "source", "made by", "made in", "rows", "drawn"), rows)


def _producers(report: Shown) -> RenderableType | None:
    """What each of several producers gave to the turn."""
    from flywheel.cli.rendering import grid_of

    columns = ("by", "rows", "kept", "shared groups", "kept alone", "right of kept", "right of kept alone")
    rows = [
        (
            c.name,
            c.rows,
            c.kept,
            c.shared,
            c.kept_alone,
            *(_audited(share, of) for share, of in ((c.right, c.audited), (c.right_alone, c.audited_alone))),
        )
        for c in report.contributions
    ]
    return grid_of(columns, rows) if rows else None


def _audited(share: Interval | None, rows: int) -> str:
    return f"{estimate_text(share)} of {rows}" if share else "not audited"


def _audit(report: Shown) -> Iterator[RenderableType | None]:
    """What a trusted grader found of the samples that were kept."""
    from flywheel.cli.rendering import grid_of, pairs
    from flywheel.lineage.status import NO_AUDIT

    facts = report.audit
    if facts is None:
        if report.batch is not None and report.parent is not None and report.data.rows:
            yield NO_AUDIT
        return
    kept, dropped = facts.kept, facts.dropped
    values: dict[str, Any] = {"fault": facts.fault}
    values["grader"] = f"{facts.grader}, version {short(facts.version or 'unknown')}"
    values["kept"] = f"{kept.right} of {kept.graded} right, of {kept.rows}"
    values["dropped"] = f"{dropped.right} of {dropped.graded} right, of {dropped.rows} that lead their groups"
    values |= {f"no answer: {reason}": count for reason, count in facts.failures.items()}
    yield pairs({name: value for name, value in values.items() if value})
    shares = {"precision": facts.precision, "recall": facts.recall}
    shares |= {f"{name} - truth": gap for name, gap in facts.gaps.items()}
    by = ((f"precision, {c} {v}", share) for c, each in facts.by.items() for v, share in each.items())
    rows = [(name, estimate_text(share)) for name, share in (*shares.items(), *by) if share]
    yield grid_of(("", "value [95% interval]"), rows)


def _tuned(report: Shown) -> Iterator[RenderableType | None]:
    """What the tuner did, and the trials."""
    from flywheel.cli.rendering import grid_of, pairs

    tuned = report.tuned
    if tuned is None:
        return
    counts = {"failed": tuned.failed, "pruned": tuned.pruned}
    lost = [f"{count} {what}" for what, count in counts.items() if count]
    made = f"{len(report.trials)} trials, {tuned.share:.2f} whole fits together"
    importance = sorted(tuned.importance.items(), key=lambda item: -item[1])
    values = {
        "why": tuned.reason,
        "trials": ", ".join([made, *lost]),
        "importance": ", ".join(f"{name} {share:.0%}" for name, share in importance),
        "stopped": tuned.stopped,
        "shown": ", ".join(tuned.prior),
    }
    yield pairs({name: value for name, value in values.items() if value})
    yield grid_of(*_trials(report))


def _trials(report: Shown) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Columns and rows: the settings that differ between trials, the best trial first."""
    settings = [trial.trial.settings for trial in report.trials]
    every = dict.fromkeys(name for values in settings for name in values)
    names = [name for name in every if len({str(values.get(name)) for values in settings}) > 1]
    rows = []
    for result in sorted(report.trials, key=lambda r: (r.score is None, -(r.score or 0.0))):
        pruned = " pruned" if result.pruned else ""
        score = "failed" if result.score is None else f"{result.score:.2%}{pruned}"
        values = [_number(result.trial.settings.get(name)) for name in names]
        rows.append((f"{result.number}", score, f"{result.share:.2f}", *values, result.failure or ""))
    return ("trial", "dev", "fits", *names, ""), rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _session(session: Session) -> dict[str, Any]:
    versions = ", ".join(f"{name} {version}" for name, version in (session.versions or {}).items() if version)
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(session.time))
    places = f"threads {session.threads}, processes {session.world_size}"
    return {
        "began": began,
        "command": " ".join(session.command),
        **{f"code {name}": _tree(tree) for name, tree in session.checkouts.items()},
        "modules": _modules(session),
        **({"changed": str(session.code_changed)} if session.code_changed else {}),
        "machine": f"{session.machine}, Python {session.python}, {places}",
        "versions": f"{versions}; --json has all {len(session.distributions)}",
    }


def _modules(session: Session) -> str:
    """Modules whose source is kept, and of which it is not known; flywheel's others are many."""
    hashes = {name: sha256 for name, sha256 in session.modules.items() if name in session.sources}
    hashes |= {name: "unknown" for name, sha256 in session.modules.items() if sha256 is None}
    return ", ".join(f"{name} {short(sha256)}" for name, sha256 in hashes.items())


def _tree(tree: Mapping[str, Any]) -> str:
    text = f"commit {short(tree['commit'])}"
    if tree["diff"]:
        text += f" with changes, {tree['diff_bytes']} bytes: objects/{tree['diff'][:2]}/{tree['diff'][2:]}"
    elif tree["diff_bytes"]:
        text += f" with changes of {tree['diff_bytes']} bytes, too many to keep"
    if tree["untracked_count"]:
        text += f"; {tree['untracked_count']} untracked: {', '.join(tree['untracked'][:5])}"
        text += ", …" if tree["untracked_count"] > 5 else ""
    return text
