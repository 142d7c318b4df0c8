"""Champions as W&B artifacts: weights, corpus and settings of the newest promoted generations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.records import as_json
from flywheel.storage.state import Generation, RunState, Status

if TYPE_CHECKING:
    import wandb

    from flywheel.storage.store import Store

REFERENCE, COPY = "reference", "copy"
HOW = (None, REFERENCE, COPY)


@dataclass
class Artifacts:
    """Logs a version of up to three artifacts of the W&B run for each promotion: model, corpus, settings.

    ``reference`` gives W&B the place of a file in the run's directory, ``copy`` the file. Online a version is
    logged with the promotion, and the oldest one beyond ``limit`` is deleted. Offline nothing can be deleted:
    there the newest ``limit`` are logged when the session ends.
    """

    run: wandb.Run
    store: Store
    how: str
    limit: int
    is_offline: bool

    def __post_init__(self) -> None:
        self._logged: dict[int, list[Any]] = {}

    def promoted(self, generation: Generation, state: RunState) -> None:
        """A generation became champion."""
        if not self.is_offline:
            self._log(generation, state)
            while len(self._logged) > self.limit:
                for artifact in self._logged.pop(min(self._logged)):
                    artifact.wait().delete(delete_aliases=True)

    def close(self, state: RunState) -> None:
        """The session ends."""
        champions = [g for g in state.generations if state.can_be_champion(g)]
        for generation in champions[-self.limit :] if self.is_offline else ():
            self._log(generation, state)

    def _log(self, generation: Generation, state: RunState) -> None:
        if generation.number in self._logged or generation.weights in state.pruned:
            return
        self._use_parent(generation)
        metadata = _metadata(generation, state)
        files = {
            "model": {"weights": generation.weights},
            "dataset": {
                "corpus": generation.output("curate", "corpus"),
                "sources": generation.output("curate", "sources"),
            },
        }
        made = [self._artifact(kind, there, metadata) for kind, there in files.items()]
        made.append(self._settings(generation, metadata))
        aliases = ["champion", f"generation-{generation.number}"]
        self._logged[generation.number] = [
            self.run.log_artifact(artifact, aliases=aliases) for artifact in made if artifact is not None
        ]

    def _use_parent(self, generation: Generation) -> None:
        """Draw the edge from the parent's artifacts, where W&B has them: offline it cannot."""
        for artifact in self._logged.get(-1 if generation.parent is None else generation.parent, ()):
            if not self.is_offline:
                self.run.use_artifact(artifact.wait())

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
