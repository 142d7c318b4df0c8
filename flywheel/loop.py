"""The loop.

Genesis makes the first champion. Every later generation is one pass along this line:

 champion -> generate -> grade -> tune -> audit -> curate -> train -> evaluate -> gate -> guard -> review
 (parent)    samples     scores  settings truth    corpus   candidate outcomes  verdict alarms   consent
                ^                  |         |        ^                                        -> champion'
           suites: none            |         |  human samples
                                   |         +- some of what would be kept, by a trusted grader
                                   +- trials: short fits scored on `dev`

Each ``do`` runs a stage and records its outputs; in a resumed run it returns the record of a stage that
has run already, so that resuming is replaying.

A generation ends in one of three ways: promoted, rejected, failed. With ``promotion=frontier`` the line is
cut after ``train``: a candidate that does no shown harm on dev has *advanced*, and the next generation builds
on it. Every few generations there is a look at the newest such candidate: the rest of the line, from
``evaluate`` on.

With ``refit=true`` the champion's procedure is repeated once the loop is over, with the labels of dev and
gate as further human samples; what comes of it is *final*, and no part of the loop.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import AwaitingReview, ExitCode, Interrupted, StageFailed, StopRequested
from flywheel.records import Action, Role, Settings, Start, Verdict
from flywheel.runtime import inputs
from flywheel.runtime.runner import StageRunner
from flywheel.stages import table as stages
from flywheel.storage.events import GuardAlarm, RunEnded, StageDone, Status, finishes, limit_is_spent
from flywheel.storage.policy import EACH, GREEDY
from flywheel.storage.sources import Source, batch_source
from flywheel.storage.state import Generation


def run_loop(run: StageRunner) -> ExitCode:
    """Make generations until the session ends; the exit code says how."""
    try:
        with run.tools.stop.on_signals():
            while (ending := ending_due(run)) is None:
                if run.state.must_fall_back:
                    run.fall_back()
                    continue  # it may be over now
                generation = run.state.current or next_generation(run)
                try:
                    make(run, generation)
                except StageFailed as failure:
                    cost = {"cost": failure.cut_off["cost"]} if failure.cut_off else {}
                    end(run, generation, Status.FAILED, str(failure), traceback=trace_of(failure), **cost)
            if ending.event == "run_finished":
                look_at_sealed_suites(run)
    except StageFailed as failure:  # of a look: no generation has it
        trace = trace_of(failure)
        ending = RunEnded(event="run_failed", reason=str(failure), traceback=trace, **failure.cut_off)
    except StopRequested as stop:
        ending = RunEnded(event="run_stopped", reason=str(stop), **stop.cut_off)
    except AwaitingReview as waiting:
        ending = RunEnded(event="run_awaiting_review", manifest=waiting.manifest, **waiting.cut_off)
    except Interrupted as signal:
        ending = RunEnded(event="run_interrupted", reason=str(signal), **signal.cut_off)
    run.tools.stop.consume()
    run.record(ending)
    return ExitCode[ending.event.removeprefix("run_").upper()]


def next_generation(run: StageRunner) -> Generation:
    """The frontier, if its look is due; else begin the next turn, or the refit that a run ends with."""
    over = why_over(run)
    if run.state.is_look_due(is_over=over is not None):
        assert run.state.frontier is not None, "or no look were due"
        return run.state.frontier
    return run.start_refit() if over else run.start_generation()


def make(run: StageRunner, generation: Generation) -> None:
    """Make a generation, or what is missing of it, to its end."""
    if generation.refit_of is not None:
        refit(run, generation, run.state.generations[generation.refit_of])
    elif generation.is_genesis:
        genesis(run, generation)
    elif generation.status is Status.ADVANCED:
        certify(run, generation)
    else:
        turn(run, generation)


def end(run: StageRunner, generation: Generation, status: Status, reason: str, **details: Any) -> None:
    """End a generation with a verdict."""
    done = [stages.gate] if generation.status is Status.ADVANCED else stages.STAGES  # since it ended last
    carries = {stage.name: str(stage.part) for stage in done if stage.has_carry}
    run.end_generation(generation, status, reason, carries, **details)


def trace_of(failure: StageFailed) -> str:
    """The traceback of what made a stage fail."""
    return "".join(traceback.format_exception(failure.__cause__ or failure))


def genesis(run: StageRunner, generation: Generation) -> None:
    """The first champion, by definition: trained on the human samples, imported, or untrained."""
    settings = run.components.settings(genesis=True)
    do = functools.partial(run.do, generation, settings)
    human = do(stages.seed)
    starts = inputs.starts_of_genesis(run)
    (start,) = starts.values()
    if run.config["genesis"] == "train":
        sources = [inputs.of_people(human.outputs["samples"])]
        candidate = learn(run, generation, settings, sources, starts, start.kind)
    else:
        candidate = do(stages.adopt, start=start)
    weights, shown = candidate.outputs["weights"], inputs.shown_before(run)
    run.do(generation, generation.settings, stages.evaluate, weights=weights, opponent=None, **shown)
    end(run, generation, Status.PROMOTED, "genesis: the first champion")


def turn(run: StageRunner, generation: Generation) -> None:
    """One generation: the frontier, or champion, makes data, a candidate learns from it, evidence decides."""
    parent = run.state.generations[generation.parent or 0]
    settings = inputs.settings_in_force(run, parent)
    do = functools.partial(run.do, generation, settings)
    rivals = inputs.rivals_of(run, parent)
    samples = do(stages.generate, parent=parent, rivals=rivals)
    scores = do(stages.grade, samples=samples.outputs["samples"], parent=parent)
    fresh = [samples.outputs["samples"], scores.outputs["scores"], None]
    sources, starts = [*inputs.sources_before(run, parent), fresh], inputs.starts_of(run, parent)
    learn(run, generation, settings, sources, starts, run.config["init"], parent, rivals)
    if run.state.promotion.rule == EACH:
        certify(run, generation)
    else:
        screen(run, generation)


def learn(
    run: StageRunner,
    generation: Generation,
    settings: Settings,
    sources: Sequence[Source],
    starts: Mapping[str, Start],
    init: str,
    parent: Generation | None = None,
    rivals: Mapping[str, Generation | Start] | None = None,
) -> StageDone[Any]:
    """Settings and a start are chosen by trials; with them the corpus is made, and the candidate trained.

    Between the two the rows that would be kept of a turn's batch are audited, if there is a trusted grader.
    """
    given = {"sources": sources, "recalled": run.state.recalled, "after": inputs.stream_before(run, parent)}
    known = {"prior": inputs.prior_trials(run), "memory": inputs.memory_of(run, generation)}
    producers = {"parent": parent, "rivals": rivals or {}}
    choices = {"starts": starts, "init": init, "redo": stages.REDO, **producers, **known}
    chosen = run.do(generation, settings, stages.tune, **given, **choices).facts
    inputs.remember_trials(run, generation)
    do = functools.partial(run.do, generation, chosen.settings)
    if parent is not None and run.config["audit"]["grader"]:
        before = inputs.audits_before(run, generation)
        do(stages.audit, parent=parent, before=before, curate=stages.curate, **given)
        given["sources"] = [*sources[:-1], batch_source(generation)]
    corpus = do(stages.curate, **given)
    rows = {"corpus": corpus.outputs["corpus"], "sources": corpus.outputs["sources"]}
    start = inputs.chosen_start(run, generation, starts)
    return do(stages.train, **rows, start=start, share=chosen.share)


def screen(run: StageRunner, generation: Generation) -> None:
    """End a turn by what dev says: the candidate advances where no harm is shown."""
    champion, rule = run.state.champion, run.state.promotion
    assert champion is not None, "a turn is on a champion, or on what is ahead of one"
    against = inputs.dev_outcomes([champion, run.state.best_ahead])
    given = {"weights": generation.weights, "opponent": champion, "against": against}
    facts = run.do(generation, generation.settings, stages.screen, **given, rule=rule).facts
    if rule.rule == GREEDY:
        return conclude(run, generation, Verdict(facts.advance, facts.reason, level=0.0), ())
    return end(run, generation, Status.ADVANCED if facts.advance else Status.REJECTED, facts.reason)


def certify(run: StageRunner, generation: Generation) -> None:
    """A look at the gate's items: is the candidate better than the champion? It is charged before."""
    champion, do = run.state.champion, functools.partial(run.do, generation, generation.settings)
    assert champion is not None, "what is looked at is compared with a champion"
    look = run.charge_look(generation)
    gate_figures = {**inputs.shown_before(run), "level": look.level}
    outcomes = do(stages.evaluate, weights=generation.weights, opponent=champion, **gate_figures)
    evidence = {
        "candidate": outcomes.outputs["outcomes"],
        "champion": champion.output("evaluate", "outcomes"),
    }
    verdict: Verdict = do(stages.gate, **evidence, level=look.level).facts.verdict
    judged = {"judged": generation, "opponent": champion, "verdict": verdict}
    has_guards = any(run.config["guards"].values())
    earlier = inputs.seen_by_guards(run, generation) if has_guards else {}
    alarms = do(stages.guard, **judged, **evidence, **earlier).facts.alarms if has_guards else ()
    conclude(run, generation, verdict, alarms)


def conclude(
    run: StageRunner, generation: Generation, verdict: Verdict, alarms: Sequence[GuardAlarm]
) -> None:
    """End a turn, or a look at the frontier, as the verdict, the guards and the review say."""
    refused, consent = reasons(alarms, Action.REJECT, Action.HALT), False
    if verdict.promote and not refused:
        request = {"candidate": generation, "verdict": verdict, "alarms": alarms}
        answers = {"consents": run.state.consents}
        facts = run.do(generation, generation.settings, stages.review, **request, **answers).facts
        consent = facts.consent
        refused = "" if consent else "the review said no"
    stays = generation.status is Status.ADVANCED and not refused
    status = Status.PROMOTED if consent else Status.ADVANCED if stays else Status.REJECTED
    said = [refused, verdict.reason] if verdict.promote else [verdict.reason, refused]
    end(run, generation, status, (", though " if verdict.promote else "; ").join(filter(None, said)))


def refit(run: StageRunner, generation: Generation, champion: Generation) -> None:
    """The champion's corpus, settings and start once more, with the labels of dev and gate in the corpus.

    Settings are different where ``refit_settings`` says so, of the curator and of the fit.
    It is neither gated nor guarded: there are no gate items left that could tell of it.
    """
    own, start = run.config["refit_settings"], inputs.start_again(run, champion)
    do = functools.partial(run.do, generation, {**champion.settings, **own})
    labels = do(stages.labels)
    human, *others = inputs.sources_again(run, champion)
    sources = [human, inputs.of_people(labels.outputs["samples"]), *others]
    like = champion.output("curate", "corpus")
    corpus = do(stages.curate, sources=sources, recalled=run.state.recalled, like=like)
    rows = {"corpus": corpus.outputs["corpus"], "sources": corpus.outputs["sources"]}
    done = do(stages.train, **rows, start=start)
    counts = " and ".join(f"{count} of {suite}" for suite, count in labels.facts.by_suite.items())
    trained = done.facts.settings.items()
    but = "".join(f", {key}={value}" for key, value in trained if value != champion.settings[key])
    reason = (
        f"as generation {champion.number}{but}, with {labels.facts.human} more labels, {counts}; not gated"
    )
    run.end_generation(generation, Status.FINAL, reason, {})


def ending_due(run: StageRunner) -> RunEnded | None:
    """How the session ends before another generation; None: it makes one.

    A guard's halt and a failure that stops the run follow from the ledger, so that they hold for the next
    session, too, where this one is killed before it has recorded its end.
    """
    ended, champion = run.state.unreported, run.state.champion
    if ended and ended.guard and (halts := reasons(ended.guard.facts.alarms, Action.HALT)):
        return RunEnded(event="run_stopped", reason=halts)
    failure_stops = run.config["on_failure"] == "stop" or not champion
    if ended and ended.status is Status.FAILED and failure_stops:
        return RunEnded(event="run_failed", reason=ended.reason)
    over = why_over(run)
    if over == "budget" and not (champion and finishes(run.config["budget"])):
        key = run.state.limit_reached(run.config["budget"]) or ""
        return RunEnded(event="run_stopped", reason=limit_is_spent(key, run.config["budget"][key]))
    if run.state.is_look_due(is_over=over is not None):
        return None
    if over and run.config["refit"] and run.state.is_refit_due(run.config["on_failure"]):
        return None
    if over and champion:
        return RunEnded(event="run_finished", reason=over, champion=champion.number)
    return None


def reasons(alarms: Sequence[GuardAlarm], *actions: Action) -> str:
    """Why guards ask for one of these actions, as one text; empty: none does."""
    return "; ".join(f"guard {a.guard}: {a.reason}" for a in alarms if a.action in actions)


def why_over(run: StageRunner) -> str | None:
    """Why the run makes no further generation; None: it makes one."""
    if run.state.current:
        return None
    config = run.config
    spent = "budget" if run.state.limit_reached(config["budget"]) else None
    return run.state.is_over(config["generations"], config["patience"], config["on_failure"]) or spent


def look_at_sealed_suites(run: StageRunner) -> None:
    """Open the sealed suites, which is charged, and evaluate the first and the last champion, once each.

    In the same opening also the final, if there is one.
    """
    first, champion = run.state.first_champion, run.state.champion
    assert first is not None, "a run that made its generations has a champion"
    assert champion is not None
    if not run.state.has_suites(Role.SEALED):
        return
    run.charge_opening()
    several = [first, champion, *filter(None, [run.state.final])]
    for generation in {g.number: g for g in several}.values():
        run.do(generation, generation.settings, stages.sealed, weights=generation.weights, opponent=first)
