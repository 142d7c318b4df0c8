"""The batches that a generation's corpus drew from."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.lineage.state import Generation
from flywheel.lineage.store import Store

Source = Sequence[str | None]
"""Artifacts of one batch: its samples, and its scores or None."""


def sources_of(store: Store, generation: Generation) -> list[Source]:
    """The batches that a generation's corpus drew from; none before it has a corpus."""
    name = generation.output("curate", "sources")
    return list(store.json(name)) if name else []
