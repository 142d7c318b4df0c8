"""A generation as a folder: weights, model card, lineage and manifest.

model.safetensors   the weights
config.json         resolved configuration, the model's class and arguments, the settings it was made with
outcomes.parquet    every item that it was evaluated on
lineage.jsonl       the ledger's lines on its ancestry, as written, and the last line of all: the head
README.md           model card in the Hugging Face format
manifest.json       every file with its SHA-256 and size
model.sig           once signed
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Mapping
from pathlib import Path

from flywheel.errors import RunError
from flywheel.export import manifest
from flywheel.export.card import model_card
from flywheel.lineage.generation import Which
from flywheel.lineage.graph import Graph
from flywheel.lineage.record import Record
from flywheel.lineage.show import shown
from flywheel.lineage.status import bare
from flywheel.lineage.views import outcomes_of
from flywheel.storage import files
from flywheel.storage.events import (
    CodeChanged,
    Event,
    FellBack,
    GenerationEnded,
    GenerationStarted,
    Look,
    Pruned,
    Recalled,
    RolledBack,
    RunCreated,
    RunEnded,
    SessionStarted,
    StageDone,
)
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.state import Generation


@reread_when_pruned
def bundle(directory: Path, which: Which, out: Path) -> Path:
    """Write a generation's bundle to ``out``, which must not exist: all of it or nothing.

    Raises RunError if the generation has no weights (any more), or ``out`` exists.
    """
    record = Record.read(directory)
    generation = record.generation(which)
    number = generation.number
    if os.path.lexists(out):
        raise RunError(f"A bundle is written to a new folder; {out} exists. Give another --out.")
    if generation.weights is None:
        raise RunError(f"A bundle needs weights; generation {number} of {directory} is {generation.status}.")
    if record.is_gone(generation.weights):
        raise RunError(f"A bundle needs weights; those of generation {number} of {directory} were pruned.")
    content = _content(record, generation)
    try:
        _write(out, content)
    except OSError as error:
        raise RunError(
            f"A bundle needs a folder that can be written; {out} cannot: {error.strerror}."
        ) from error
    return out


def _write(out: Path, content: Mapping[str, bytes]) -> None:
    """Write a folder so that a reader, or a crash, sees none of it or all."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        files.make_directory(aside)
        for name, data in content.items():
            files.write_atomic(aside / name, data)
        os.rename(aside, out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    files.sync_directory(out.parent)


def _content(record: Record, generation: Generation) -> dict[str, bytes]:
    report = shown(record, generation)
    ancestors = ancestry(record, generation)
    about = manifest.About(
        run=record.name,
        recipe=str(report.recipe),
        generation=generation.number,
        weights=str(bare(generation.weights)),
        head=record.head,
        sealed_openings=report.sealed_openings,
    )
    config = {
        **{key: getattr(about, key) for key in ("recipe", "run", "generation")},
        **{key: getattr(report, key) for key in ("settings", "model", "config")},
    }
    content = {
        manifest.WEIGHTS: record.store.get(str(generation.weights)),
        "config.json": manifest.indented(config),
        "outcomes.parquet": _outcomes(record, generation),
        manifest.LINEAGE: b"".join(excerpt(record, ancestors)),
        "README.md": model_card(record, report, ancestors).encode(),
    }
    return {**content, manifest.NAME: manifest.written(about, content)}


def _outcomes(record: Record, generation: Generation) -> bytes:
    import io

    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(outcomes_of(record, [generation]), sink, compression="zstd")
    return sink.getvalue()


def ancestry(record: Record, generation: Generation) -> list[Generation]:
    """The generations that a generation came from, itself last: parents, makers of data, whom it refits.

    And the champions that they were compared with.
    """
    known, numbers, waiting = record.state.generations, set[int](), [generation.number]
    graph = Graph(record.store, record.state)
    while waiting:
        number = waiting.pop()
        if number not in numbers:
            numbers.add(number)
            before = (known[number].parent, known[number].refit_of, known[number].champion)
            waiting += [number for number in before if number is not None]
            waiting += graph.drawn_turns(known[number])
            makers = record.state.makers_of(known[number]).values()
            waiting += [maker for maker in makers if maker is not None]
    return [known[number] for number in sorted(numbers)]


def excerpt(record: Record, ancestors: list[Generation]) -> list[bytes]:
    """The lines on an ancestry: the run, its sessions, those generations, recalls, and the last line."""
    numbers = {generation.number for generation in ancestors}
    pairs = list(zip(record.events, record.lines(), strict=True))
    return [line for event, line in pairs[:-1] if _is_of(event, numbers)] + [line for _, line in pairs[-1:]]


def _is_of(event: Event, numbers: Container[int]) -> bool:
    """Whether an event is one of these generations, or of all."""
    if isinstance(event, CodeChanged | GenerationStarted | Look | StageDone | GenerationEnded | RunEnded):
        return event.generation in numbers
    return isinstance(event, RunCreated | SessionStarted | Recalled | RolledBack | FellBack | Pruned)
