"""The batches that a generation decided on, kept of, and drew from.

``curate`` is given a list of sources, and records those of which it kept something with how many different
rows of each are in the corpus: ``[samples, scores or null, audits or null, rows]``. What was kept and not
drawn stays available to later turns; only what was drawn was learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.storage.events import StageDone
from flywheel.storage.state import Generation
from flywheel.storage.store import Store

Source = Sequence[str | None]
"""Artifacts of one batch: its samples, its scores or None, and its audits or None."""


def batch_source(generation: Generation) -> Source:
    """The batch of a generation's turn, with its scores and audits as far as they are made."""
    outputs = (("generate", "samples"), ("grade", "scores"), ("audit", "audits"))
    return [generation.output(stage, name) for stage, name in outputs]


def read_sources(store: Store, name: str) -> list[Source]:
    """The sources in an artifact."""
    return [source[:3] for source in store.json(name)]


def sources_of(store: Store, generation: Generation) -> list[Source]:
    """The batches of which a generation's curator kept something; none before it has a corpus."""
    name = generation.output("curate", "sources")
    return read_sources(store, name) if name else []


def drawn_of(store: Store, generation: Generation) -> list[str]:
    """The batches, artifacts of samples, of which rows are in a generation's corpus."""
    name = generation.output("curate", "sources")
    return [source[0] for source in store.json(name) if source[-1]] if name else []


def seen_of(store: Store, generation: Generation) -> list[str]:
    """The batches, artifacts of samples, that a generation's curator decided on."""
    return given_to(store, generation.curate) if generation.curate else []


def given_to(store: Store, stage: StageDone[Any]) -> list[str]:
    """The batches, artifacts of samples, that a stage was given."""
    return [str(source[0]) for source in read_sources(store, stage.inputs["sources"])]
