"""How much the gate score that is shown flatters those who choose by it: the attack of Blum and Hardt (2015).

    python -m benchmarks.ladder [--items 750] [--candidates 200] [--repeats 500]

Candidates guess: on fresh data each of them scores 1/2. They see, as in a loop, whether and to what the shown
score rose, and build on that. ``vote``: each is the majority vote of a guess and of all guesses that raised
it. ``climb``: each is the one that raised it last, with a fifth of its answers guessed anew. The table has
the mean over repeats of the score that is shown in the end, less 1/2, in standard errors of a score.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from flywheel.keys import Key
from flywheel.metrics.ladder import is_step
from flywheel.records import Differences
from flywheel.storage.accountant import ErrorBudget

ALPHA = 0.05
REDRAWN = 0.2
"""Share of the answers that a climber guesses anew."""
ATTACKS = ("vote", "climb")


class Board:
    """The score that is shown, by one of ``RULES``."""

    def __init__(self, rule: Callable[[np.ndarray, np.ndarray, int], bool]) -> None:
        self._rule = rule
        self._looks = 0
        self.best: np.ndarray | None = None
        """Scores on the items, 0 or 1, of the candidate whose score is shown."""

    @property
    def shown(self) -> float:
        """The mean score that is shown."""
        assert self.best is not None, "nothing was shown yet"
        return float(self.best.mean())

    def show(self, scores: np.ndarray) -> bool:
        """Take the scores of a candidate; whether the shown score rose. The first one's is always shown."""
        if self.best is None:
            self.best = scores
            return False
        self._looks += 1
        rises = self._rule(scores, self.best, self._looks)
        self.best = scores if rises else self.best
        return rises


def rules(candidates: int) -> dict[str, Callable[[np.ndarray, np.ndarray, int], bool]]:
    """How each rule decides that the score of a candidate is shown: by its scores, the best's, the look."""
    budget = ErrorBudget(ALPHA, candidates)
    return {
        "raw scores": lambda scores, best, look: bool(scores.mean() > best.mean()),
        "one standard error": lambda scores, best, look: is_step(_pairs(scores, best)),
        "as flywheel shows it": lambda scores, best, look: is_step(_pairs(scores, best), budget.level(look)),
    }


def _pairs(scores: np.ndarray, best: np.ndarray) -> Differences:
    return Differences(scores - best, np.arange(len(scores)))


def attack(kind: str, board: Board, items: int, candidates: int, rng: np.random.Generator) -> float:
    """The score that is shown after so many candidates; ``kind``: one of ``ATTACKS``."""
    votes = np.zeros(items)
    for _ in range(candidates):
        guess = rng.choice([-1.0, 1.0], items)  # 1: the right answer, whatever it is
        if kind == "vote":
            together = votes + guess
            scores = np.where(together == 0, guess > 0, together > 0).astype(float)
            votes += guess if board.show(scores) else 0
        else:
            anew = rng.random(items) < REDRAWN
            before = guess > 0 if board.best is None else board.best
            board.show(np.where(anew, guess > 0, before).astype(float))
    return board.shown


def excess(kind: str, rule: str, items: int, candidates: int, repeats: int) -> np.ndarray:
    """By how much the shown score is above that on fresh data, in standard errors; of each repeat."""
    decide, key = rules(candidates)[rule], Key.root(0)
    draws = (key("ladder", kind, rule, number).numpy() for number in range(repeats))
    shown = np.array([attack(kind, Board(decide), items, candidates, rng) for rng in draws])
    in_errors: np.ndarray = (shown - 0.5) / (0.5 / np.sqrt(items))
    return in_errors


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=750)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=500)
    options = parser.parse_args()
    size = (options.items, options.candidates, options.repeats)
    print(f"{size[1]} candidates, {size[0]} items, {size[2]} repeats: excess in standard errors\n")
    print("| what is shown | " + " | ".join(ATTACKS) + " |\n| --- |" + " --- |" * len(ATTACKS))
    for rule in rules(options.candidates):
        values = [excess(kind, rule, *size) for kind in ATTACKS]
        cells = [f"{x.mean():.2f} ± {1.96 * x.std(ddof=1) / np.sqrt(len(x)):.2f}" for x in values]
        print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
