"""Whether a bundle is what was handed over, and whether a run stands behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flywheel.errors import RunError
from flywheel.export import manifest
from flywheel.export.manifest import About, Manifest
from flywheel.lineage.forks import recalled_in_origins
from flywheel.records import Answer, Json
from flywheel.storage import ledger
from flywheel.storage.events import Event, GenerationStarted, Recalled, StageDone
from flywheel.storage.state import RunState


class BundleCheck(Answer, frozen=True):
    """What ``verify_bundle`` found. No problems: all files are as written."""

    folder: Path
    about: About | None
    """What the manifest says that it is of; None if it cannot be read."""
    files: int
    """How many the manifest names."""
    signature: str
    """``none``, ``not checked`` (no key was given), ``valid`` or ``invalid``."""
    run: str | None
    """The run that it was compared with."""
    problems: tuple[tuple[str, str], ...]
    """(file, what is wrong with it)."""

    @property
    def first(self) -> str:
        """The first problem as a sentence."""
        return "{}: {}.".format(*self.problems[0])

    def json(self) -> dict[str, Json]:
        """The result as JSON."""
        return {
            "ok": not self.problems,
            "bundle": str(self.folder),
            **(self.about.json() if self.about else {}),
            "files": self.files,
            "signature": self.signature,
            "compared_with": self.run,
            "problems": [{"file": name, "problem": text} for name, text in self.problems],
        }


def verify_bundle(folder: Path, key: Path | None = None, run: Path | None = None) -> BundleCheck:
    """Check every file against the manifest, the signature if a key is given, the lineage if a run is.

    That the generation is recalled or suspect is a problem, too, whether its own lineage says so or the run.

    ``run``: the directory of the run that the bundle says it is from. Raises RunError if ``folder`` is no
    bundle at all, ConfigError for a bad key, MissingExtra where a key needs a library.
    """
    if not (folder / manifest.NAME).exists() and not (folder / manifest.WEIGHTS).exists():
        raise RunError(f"Expected a bundle (a folder with {manifest.NAME}), got {folder}.")
    problems: list[tuple[str, str]] = []
    listed: Manifest | None = None
    try:
        listed = manifest.read(folder)
    except ValueError as error:
        problems.append((manifest.NAME, str(error)))
    else:
        problems += manifest.problems(folder, listed.files)
        if not problems:
            problems += _inconsistent(folder, listed)
        if not problems and run is None:
            problems += _flagged(_excerpt(folder), listed.about.generation, "its own lineage says that")
    signature, bad = _signature(folder, key)
    named = {name for name, _ in problems}
    problems += [(name, text) for name, text in bad if name not in named]
    if run is not None and listed is not None:
        problems += _not_of(run, folder, listed.about)
    about, files = (listed.about, len(listed.files)) if listed else (None, 0)
    return BundleCheck(folder, about, files, signature, str(run) if run else None, tuple(problems))


def _signature(folder: Path, key: Path | None) -> tuple[str, list[tuple[str, str]]]:
    if not (folder / manifest.SIGNATURE).exists():
        unsigned = [(manifest.SIGNATURE, "it is missing: the bundle was not signed")]
        return "none", unsigned if key else []
    if key is None:
        return "not checked", []
    from flywheel.export.signature import signature_problems

    bad = signature_problems(folder, key)
    return ("invalid" if bad else "valid"), bad


def _inconsistent(folder: Path, listed: Manifest) -> Iterator[tuple[str, str]]:
    """What the files say against each other, though each is as the manifest has it."""
    weights, about = listed.files.get(manifest.WEIGHTS), listed.about
    if weights is None or weights.sha256 != about.weights:
        yield manifest.WEIGHTS, "it is not what the manifest calls the weights"
    try:
        events = _excerpt(folder)
    except ValueError as error:
        yield manifest.LINEAGE, str(error)
        return
    if not events or events[-1].hash != about.head:
        yield manifest.LINEAGE, "its last line is not the head that the manifest names"
    own = [e for e in events if isinstance(e, StageDone) and e.generation == about.generation]
    if f"{about.weights}.safetensors" not in [event.outputs.get("weights") for event in own]:
        yield manifest.LINEAGE, "no line says that the generation made these weights"


def _excerpt(folder: Path) -> list[Event]:
    """The ledger's lines in a bundle, each checked by its own hash. Raises ValueError."""
    try:
        lines = (folder / manifest.LINEAGE).read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    events = []
    for number, line in enumerate(lines, 1):
        try:
            place = json.loads(line)
            events.append(ledger.parse(line, place["prev"], place["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return events


def _not_of(run: Path, folder: Path, about: About) -> Iterator[tuple[str, str]]:
    """What of a bundle a run's ledger does not have, and what that has said of the generation since."""
    events = ledger.read(run)
    known = {event.hash for event in events}
    if about.head not in known:
        yield manifest.NAME, f"its head is no line of the ledger of {run}"
        return
    try:
        strange = [event.seq for event in _excerpt(folder) if event.hash not in known]
    except ValueError:
        return  # named already
    if strange:
        yield manifest.LINEAGE, f"its line of event {strange[0]} is not in the ledger of {run}"
    number = about.generation
    yield from _flagged(events, number, f"the ledger of {run} says that")
    origin = recalled_in_origins(run, RunState.replay(events)).get(number)
    if origin is not None:
        yield manifest.WEIGHTS, f"generation {number} learned from what {origin} has recalled since the fork"


def _flagged(events: Iterable[Event], number: int, who: str) -> Iterator[tuple[str, str]]:
    """Whether lines flag a generation, of which they have the ancestors: by what the loop itself goes by."""
    recalled, suspect, why = set[int](), set[int](), "its champion was"
    for event in events:
        if isinstance(event, GenerationStarted) and suspect & {event.parent, event.champion}:
            suspect.add(event.generation)
        elif isinstance(event, Recalled):
            flagged = {*event.generations, *event.suspect}
            recalled.update(event.generations)
            suspect = (suspect | flagged) - recalled
            why = event.why if number in flagged else why
    if number in recalled:
        yield manifest.WEIGHTS, f"{who} generation {number} is recalled: {why}"
    elif number in suspect:
        yield manifest.WEIGHTS, f"{who} generation {number} is suspect: {why}"
