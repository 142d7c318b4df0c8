"""Audits of turns whose truth is known: how often the interval holds, and what is flagged.

    python benchmarks/audits.py

Each turn has a batch of 3,000 rows in groups of three, of which a curator keeps some; the truth of each row
is known. The audit's own code draws rows and works out its facts: 20 runs of 14 turns at each precision, with
200 rows drawn, and again where only 20 to 150 rows are kept. No model is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flywheel.keys import Key
from flywheel.metrics.audits import before, drift, flaw
from flywheel.metrics.proportions import proportion, recall
from flywheel.storage.events import AuditFacts, Checked

PRECISIONS = (0.5, 0.7, 0.85, 0.9, 0.95, 0.98, 0.995, 1.0)
LEAST = 0.95


@dataclass(frozen=True)
class Turn:
    """What an audit found of a turn, and what is true of it."""

    facts: AuditFacts
    precision: float
    """The true share of right rows among those kept."""
    recall: float
    """The true share of kept rows among the right ones."""


def turns_of(run: int, precision: float, kept: tuple[int, int], size: int, turns: int) -> Iterator[Turn]:
    """The turns of a run; rows are right with the chance ``precision`` where kept, 15% where dropped."""
    earlier: list[AuditFacts] = []
    for number in range(turns):
        key = Key.root(run)(number, "audit", f"{precision}", f"{kept}")
        rng = key("truth").numpy()
        rows, others = int(rng.integers(kept[0], kept[1] + 1)), int(rng.integers(100, 600))
        right = rng.random(rows) < precision
        missed = rng.random(others) < 0.15
        ours = checked(right, size, key("draw", "kept"))
        theirs = checked(missed, -(-size // 4), key("draw", "dropped"))
        share = proportion(ours.right, ours.graded)
        known = before(earlier)
        facts = AuditFacts(
            grader="Truth",
            version=None,
            column="right",
            kept=ours,
            dropped=theirs,
            precision=share,
            recall=recall(*((one.rows, one.graded, one.right) for one in (ours, theirs))),
            flagged=flaw(ours, share, LEAST, {}),
            drift=drift(ours, None, known),
        )
        earlier.append(facts)
        truth = right.sum() / max(1, right.sum() + missed.sum())
        yield Turn(facts, float(right.mean()), float(truth))


def checked(right: np.ndarray, size: int, key: Key) -> Checked:
    """Rows that are drawn as an audit draws them, all of them graded."""
    names = [str(row) for row in range(len(right))]
    drawn = np.argsort(key.each(names).uniform(1)[:, 0], kind="stable")[:size]
    return Checked(rows=len(right), drawn=len(drawn), graded=len(drawn), right=int(right[drawn].sum()))


def covers(interval: object, truth: float) -> bool:
    """Whether an interval holds the truth; one that is not known does not claim anything."""
    return interval is None or bool(interval.low - 1e-12 <= truth <= interval.high + 1e-12)  # type: ignore[attr-defined]


def table(kept: tuple[int, int], size: int, runs: int, turns: int) -> Iterator[str]:
    """A line for each precision."""
    for precision in PRECISIONS:
        made = [turn for run in range(runs) for turn in turns_of(run, precision, kept, size, turns)]
        shares = [
            np.mean([covers(turn.facts.precision, turn.precision) for turn in made]),
            np.mean([covers(turn.facts.recall, turn.recall) for turn in made]),
            np.mean([bool(turn.facts.flagged) for turn in made]),
            np.mean([bool(turn.facts.drift) for turn in made]),
        ]
        yield f"| {precision:.1%} | {len(made)} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--turns", type=int, default=14)
    parser.add_argument("--size", type=int, default=200)
    options = parser.parse_args()
    for kept in ((400, 2000), (20, 150)):
        print(f"\n{kept[0]} to {kept[1]} rows kept, {options.size} drawn, least_precision {LEAST:.0%}\n")
        print("| true precision | turns | precision covered | recall covered | flagged | drift |")
        print("| --- | --- | --- | --- | --- | --- |")
        for line in table(kept, options.size, options.runs, options.turns):
            print(line)


if __name__ == "__main__":
    main()
