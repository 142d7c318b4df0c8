"""Confidence: how sure the model was of its own answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Keys


@dataclass(kw_only=True)
class Confidence:
    """Take a sample's score from the probability that its producer wrote beside it."""

    column: str = "probability"
    """Payload column with the producer's probability of its answer, in [0, 1]."""

    def grade(
        self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys
    ) -> dict[str, pa.ChunkedArray]:
        """One column, ``confidence``."""
        return {"confidence": samples[self.column]}
