"""Verifier: a function says whether a sample is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flywheel.graders.failures import FAILURE
from flywheel.graders.pool import Pool

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Keys


@dataclass(kw_only=True)
class Verifier:
    """The answer of a function to each sample, called in processes of its own with a time limit for each.

    A sample that is too slow, raises, or crashes its process has no score, with a reason; no other is harmed.
    Whether a slow one has a score may depend on how busy the machine is: leave room in ``seconds``.
    """

    function: Any
    """Called with a sample, a dict of its columns; answers true, false or a number in [0, 1].

    In YAML ``{_target_: package.module.function, _partial_: true}``, or a class with ``__call__`` by its
    ``_target_``. It must be importable by another process, and is part of the grader's version.
    """
    column: str = "verified"
    """Name of the column of scores."""
    seconds: float = 10.0
    """How long a sample may take."""
    workers: int | None = None
    """Processes, on each rank; null: one a core, shared among the ranks of this machine."""
    answer: str = "answer"
    """Payload column that the function judges, which negative controls replace."""
    negative_controls: bool = True
    """Whether a run starts only if empty, constant and shuffled answers score low."""
    _pool: Pool | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            raise ValueError(
                f"function must be a function; it is the text {self.function!r}. In YAML: "
                f"function: {{_target_: {self.function}, _partial_: true}}."
            )
        if not callable(self.function):
            raise ValueError(f"function must be callable; it is a {type(self.function).__name__}.")
        if not self.seconds > 0:
            raise ValueError(f"seconds must be above 0; it is {self.seconds}.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, or null; it is {self.workers}.")

    @property
    def checked_answer(self) -> str | None:
        """The column that negative controls replace; None: there are none."""
        return self.answer if self.negative_controls else None

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, pa.Array]:
        """One column of scores, and ``failure``, which says why a sample has none."""
        import pyarrow as pa

        if self._pool is None:
            self._pool = Pool(self.function, self.workers or _cores(), self.seconds)
        answers = self._pool.scores(list(zip(samples.to_pylist(), keys.seeds.tolist(), strict=True)))
        scores = [None if isinstance(answer, str) else answer for answer in answers]
        reasons = [answer if isinstance(answer, str) else None for answer in answers]
        return {self.column: pa.array(scores, pa.float64()), FAILURE: pa.array(reasons, pa.string())}

    def close(self) -> None:
        """End the processes. It may be used again."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_pool": None}


def _cores() -> int:
    """Cores that this process may use, for each rank on this machine."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
