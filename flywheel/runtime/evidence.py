"""What gates and guards may look at: paired differences of outcomes, and tables that are read lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flywheel.records import Differences, Role, Suite


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """What gates and guards see of two models: names of suites and paired differences, no item, no mean."""

    _all: Mapping[str, Suite]
    _candidate: pa.Table
    _champion: pa.Table
    _role: Role = Role.GATE

    @property
    def suites(self) -> list[str]:
        """Names of the suites with the role."""
        return [suite.name for suite in self._all.values() if suite.role == self._role]

    def differences(self, suite: str, clusters: int | None = None) -> Differences:
        """Differences candidate - champion on the same items; of a duel, 2 x mean score - 1.

        Of the suite's first ``clusters`` clusters, with all their items; None: of all.
        """
        theirs = _of_suite(self._candidate, suite)
        scores = theirs["score"].to_numpy()
        if self._all[suite].duel:
            differences = 2 * scores - 1
        else:
            ours = _of_suite(self._champion, suite)
            if ours["item"].to_pylist() != theirs["item"].to_pylist():
                raise ValueError(f"champion and candidate were scored on different items of {suite}")
            differences = scores - ours["score"].to_numpy()
        numbers = _numbered(theirs["cluster"].to_pylist())
        chosen = numbers < (len(numbers) if clusters is None else clusters)
        return Differences(differences[chosen], numbers[chosen])


def _of_suite(outcomes: pa.Table, suite: str) -> pa.Table:
    return outcomes.filter(np.equal(outcomes["suite"].to_numpy(), suite))


def _numbered(clusters: list[str]) -> np.ndarray:
    """The number of each item's cluster, clusters in order of first appearance."""
    order = {cluster: k for k, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([order[cluster] for cluster in clusters], np.int64)


@dataclass(frozen=True, slots=True)
class LazyTables(Mapping[int, pa.Table]):
    """Tables by generation, each read when it is asked for."""

    _readers: Mapping[int, Callable[[], pa.Table]]

    def __getitem__(self, generation: int) -> pa.Table:
        return self._readers[generation]()

    def __iter__(self) -> Iterator[int]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)
