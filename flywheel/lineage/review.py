"""What a run asks its reviewer, and a person's answer to it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flywheel.errors import RunError
from flywheel.lineage.status import read_state
from flywheel.records import Answer, Settings, Verdict
from flywheel.storage.events import Consented, GuardAlarm
from flywheel.storage.lock import Work
from flywheel.storage.state import RunState
from flywheel.storage.store import Store
from flywheel.storage.writer import amend


class Asked(Answer, frozen=True):
    """What a run asks its reviewer."""

    manifest: str
    """Artifact: what consent is bound to."""
    generation: int
    """The candidate."""
    parent: int
    champion: int
    """The one that it is to replace."""
    weights: str
    corpus: str
    settings: Settings
    outcomes: str
    """Artifact: those that the verdict is by; with ``promotion=greedy``, which is no test, on dev."""
    verdict: Verdict
    alarms: tuple[GuardAlarm, ...]


def asked(directory: Path) -> Asked:
    """What the run waits to have reviewed. Raises RunError if it waits for nothing."""
    manifest = _asked(directory, read_state(directory))
    return msgspec.convert({**Store(directory).json(manifest), "manifest": manifest}, Asked)


def answer(directory: Path, consent: bool, by: str, why: str, manifest: str = "") -> None:
    """Record a person's answer; the next session uses it.

    ``manifest``: what was reviewed, or the beginning of its name; RunError if the run asks about another.
    """
    with amend(directory, Work.REVIEW) as run:
        asked = _asked(directory, run.state)
        if not asked.startswith(manifest):
            raise RunError(
                f"Expected the manifest under review, {asked[:12]}, got {manifest!r}. "
                "Look at it with: python -m flywheel review RUN."
            )
        run.record(Consented(manifest=asked, consent=consent, by=by, why=why))


def _asked(directory: Path, state: RunState) -> str:
    if state.asked is None:
        raise RunError(f"Expected a run that waits for a review, got {directory}, which does not.")
    return state.asked
