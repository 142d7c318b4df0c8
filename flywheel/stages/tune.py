"""Tune: choose the settings and the starting weights, by short fits scored on the dev suites."""

from __future__ import annotations

from flywheel.errors import StageFailed
from flywheel.records import Role, Settings, Start
from flywheel.runtime.context import Context, StageOutput, carry_of
from flywheel.runtime.fit import fit
from flywheel.runtime.scoring import score_mean
from flywheel.storage.corpus import read_corpus
from flywheel.storage.events import Attempt, TuneFacts
from flywheel.storage.sources import read_sources
from flywheel.storage.state import Generation


def tune(
    ctx: Context,
    *,
    corpus: str,
    sources: str,
    starts: dict[str, Start],
    init: str,
    opponent: Generation | None = None,
) -> StageOutput:
    """The tuner's settings and init.

    ``starts`` has what a candidate may start from, by kind; ``init`` is the configured one of them, and the
    tuner may name another. ``attempt(settings, fidelity)`` fits for
    that share of the steps and returns the mean score over the dev suites, duels against ``opponent``.
    """
    tuner = ctx.components.build("tuner", ctx.settings)
    attempts: list[Attempt] = []

    def attempt(settings: Settings, fidelity: float) -> float:
        settings = ctx.components.tuned(settings)
        key = ctx.key("attempt")  # the same for all, so that they differ by their settings only
        rows = read_corpus(ctx.store, corpus, read_sources(ctx.store, sources))
        model = fit(ctx, settings, key, rows, starts[init].weights, fidelity=fidelity).model
        rival = ctx.load_model(str(opponent.weights), opponent.settings) if opponent else None
        score = score_mean(ctx, model, rival, Role.DEV, key)
        attempts.append(Attempt(settings=settings, fidelity=fidelity, score=score))
        return score

    settings, chosen, carry = tuner.tune(attempt, ctx.settings, init, ctx.carry.get("tuner", {}))
    if chosen not in starts:
        raise StageFailed("tune", f"init must be one of {', '.join(starts)}; the tuner chose {chosen!r}")
    output, carry_kept = carry_of(tuner, carry)
    tuned = ctx.components.tuned(settings)
    facts = TuneFacts(settings=tuned, start=chosen, attempts=tuple(attempts), carry_kept=carry_kept)
    return StageOutput(output, facts)
