"""Champions as W&B artifacts: weights, corpus and settings of the newest promoted generations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.records import as_json
from flywheel.storage.corpus import is_in_parts, parts_of
from flywheel.storage.state import Generation, RunState, Status
from flywheel.trackers.console import printable

if TYPE_CHECKING:
    import wandb

    from flywheel.storage.store import Store

REFERENCE, COPY = "reference", "copy"
HOW = (None, REFERENCE, COPY)
KINDS = ("model", "dataset", "settings")


@dataclass
class Artifacts:
    """Logs a version of up to three artifacts of the W&B run for each promotion: model, corpus, settings.

    ``reference`` gives W&B the place of a file in the run's directory, ``copy`` the file. Online a version is
    logged with the promotion, and older ones beyond ``limit`` are deleted. Offline nothing can be deleted:
    there the newest ``limit`` are logged when the session ends. W&B's server may refuse to delete or to draw
    an edge: that is said once, and the rest goes on.
    """

    run: wandb.Run
    store: Store
    how: str
    limit: int
    is_offline: bool

    def __post_init__(self) -> None:
        self._refused: set[str] = set()

    def promoted(self, generation: Generation, state: RunState) -> None:
        """A generation became champion."""
        if not self.is_offline:
            self._attempt("delete older artifacts", self._make_room)
            self._log(generation, state)

    def close(self, state: RunState) -> None:
        """The session ends."""
        champions = [g for g in state.generations if state.can_be_champion(g)]
        for generation in champions[-self.limit :] if self.is_offline else ():
            self._log(generation, state)

    def _log(self, generation: Generation, state: RunState) -> None:
        if generation.weights in state.pruned:
            return
        if generation.parent is not None and not self.is_offline:
            name = f"{self._path('model')}:generation-{generation.parent}"
            self._attempt("draw edges of artifacts", lambda: self.run.use_artifact(name))
        metadata = _metadata(generation, state)
        corpus, sources = (generation.output("curate", name) for name in ("corpus", "sources"))
        files = {
            "model": {"weights": generation.weights},
            "dataset": {"corpus": corpus, "sources": sources, **self._parts(corpus)},
        }
        made = [self._artifact(kind, there, metadata) for kind, there in files.items()]
        made.append(self._settings(generation, metadata))
        aliases = ["champion", f"generation-{generation.number}"]
        for artifact in filter(None, made):
            self.run.log_artifact(artifact, aliases=aliases)

    def _parts(self, corpus: str | None) -> dict[str, str | None]:
        """The tables that a corpus which is a list of parts has rows of, each once."""
        if corpus is None or not is_in_parts(corpus) or not self.store.path(corpus).is_file():
            return {}
        tables = dict.fromkeys(part.table for part in parts_of(self.store, corpus))
        return {f"corpus-{number}": table for number, table in enumerate(tables)}

    def _make_room(self) -> None:
        """Delete all but the newest versions of each kind, so that with the next one there are ``limit``.

        Nothing waits for an upload: what is under way is not counted yet, and deleted with a later promotion.
        """
        import wandb

        api = wandb.Api()
        for kind in KINDS:
            versions = list(api.artifacts(kind, self._path(kind), order="-createdAt"))
            for version in versions[self.limit - 1 :]:
                version.delete(delete_aliases=True)

    def _path(self, kind: str) -> str:
        return f"{self.run.entity}/{self.run.project}/{self.run.id}-{kind}"

    def _attempt(self, what: str, call: Callable[[], Any]) -> None:
        """Ask W&B's server for something that the run can do without."""
        try:
            call()
        except Exception as error:  # whatever its client raises
            if what not in self._refused:
                self._refused.add(what)
                print(f"tracker.wandb: W&B did not {what}: {printable(error)}", file=sys.stderr)

    def _artifact(self, kind: str, files: dict[str, str | None], metadata: dict[str, Any]) -> Any:
        """Of files of the store; None: there are none."""
        there = {name: self.store.path(file) for name, file in files.items() if file}
        there = {name: path for name, path in there.items() if path.is_file()}
        if not there:
            return None
        artifact = self._new(kind, metadata)
        for name, path in there.items():
            self._add(artifact, f"{name}{path.suffix}", path)
        return artifact

    def _add(self, artifact: wandb.Artifact, name: str, path: Path) -> None:
        if self.how == COPY:  # immutable: it stays as it is, so that W&B needs no copy before the upload
            artifact.add_file(str(path), name, policy="immutable", skip_cache=True)
        else:  # the name of the file is its hash: no need to read it for another one
            artifact.add_reference(path.resolve().as_uri(), name, checksum=False)

    def _settings(self, generation: Generation, metadata: dict[str, Any]) -> wandb.Artifact:
        import json

        place = Path(self.run.dir) / f"settings-{generation.number}.json"
        place.write_text(json.dumps(generation.settings, indent=1, sort_keys=True))
        artifact = self._new("settings", metadata)
        artifact.add_file(str(place), "settings.json", policy="immutable", skip_cache=True)
        return artifact

    def _new(self, kind: str, metadata: dict[str, Any]) -> wandb.Artifact:
        import wandb

        return wandb.Artifact(f"{self.run.id}-{kind}", kind, metadata=metadata)


def _metadata(generation: Generation, state: RunState) -> dict[str, Any]:
    """What it was made from, as the ledger names it: the lineage, also where W&B cannot draw it."""
    fork = state.created.forked_from if state.created else None
    return {
        "generation": generation.number,
        "parent": generation.parent,
        "start": as_json(generation.start) if generation.start else None,
        "weights": generation.weights,
        "corpus": generation.curate.facts.corpus if generation.curate else None,
        "reason": generation.reason,
        "forked_from": str(fork) if fork else None,
        "is_promoted": generation.status is Status.PROMOTED,
    }
