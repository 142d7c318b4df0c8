"""How two generations differ, as plain data: the surface of ``diff RUN A B --json``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.config.compose import ABSENT, differences
from flywheel.lineage.code_changes import differing
from flywheel.lineage.data import corpus_of
from flywheel.lineage.graph import turns_by_batch
from flywheel.lineage.record import Record
from flywheel.lineage.show import shown
from flywheel.lineage.status import bare
from flywheel.lineage.views import outcomes_of
from flywheel.storage.ids import made_in
from flywheel.storage.reader import reread_when_pruned
from flywheel.storage.sources import drawn_of
from flywheel.storage.state import Generation

_ENVIRONMENT = ("command", "world_size", "threads", "machine", "python", "versions")


@reread_when_pruned
def diff(run_a: Path, a: int, run_b: Path, b: int) -> dict[str, Any]:
    """``difference`` of two runs, or of one, as they are now."""
    record = Record.read(run_a)
    return difference(record, a, record if run_a == run_b else Record.read(run_b), b)


def difference(a: Record, number_a: int, b: Record, number_b: int) -> dict[str, Any]:
    """What changed from generation A to generation B, of one run or of two.

    Raises RunError if there is none of such a number.
    """
    before, after = a.generation(number_a), b.generation(number_b)
    old, new = shown(a, before), shown(b, after)
    sessions = [(report["sessions"] or [{}])[-1] for report in (old, new)]
    return {
        "a": _named(old),
        "b": _named(new),
        "settings": changes(old["settings"], new["settings"]),
        "config": changes(old["config"], new["config"]),
        "init": _pair(old["init"], new["init"]),
        "data": _data(a, before, b, after),
        "code": _code(a, b, old, new),
        "environment": changes(_environment(sessions[0]), _environment(sessions[1])),
        "grader": _pair(*(_grader(report) for report in (old, new))),
        "metrics": {"a": old["metrics"], "b": new["metrics"]},
        "outcomes": _outcomes(a, before, b, after),
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: {a, b}} of the leaves that differ as JSON; what a side lacks is not there."""
    return {
        prefix + key: {side: value for side, value in zip("ab", pair, strict=True) if value is not ABSENT}
        for key, pair in differences(old, new).items()
    }


def _environment(session: Mapping[str, Any]) -> dict[str, Any]:
    return {key: session.get(key) for key in _ENVIRONMENT}


def _pair(old: Any, new: Any) -> dict[str, Any] | None:
    return {"a": old, "b": new} if old != new else None


def _named(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in ("run", "generation", "status", "flags", "weights")}


def _grader(report: Mapping[str, Any]) -> dict[str, Any]:
    return {key: (report["batch"] or {}).get(key) for key in ("grader", "version")}


def _data(a: Record, before: Generation, b: Record, after: Generation) -> dict[str, Any]:
    """Rows that both corpora have, by id, and the batches they were drawn from."""
    corpora = [corpus_of(a, before), corpus_of(b, after)]
    left, right = (pa.array([], pa.string()) if t is None else t["id"].combine_chunks() for t in corpora)
    shared = pc.sum(pc.is_in(left, value_set=right)).as_py() or 0
    batches = [_batches(a, before), _batches(b, after)]
    return {
        "same": before.fact("curate", "corpus") == after.fact("curate", "corpus"),
        "rows": {"a": len(left), "b": len(right), "shared": shared},
        "by_origin": {
            "a": before.fact("curate", "by_origin", {}),
            "b": after.fact("curate", "by_origin", {}),
        },
        "batches": {
            "shared": [_batch(batches[0], name) for name in batches[0] if name in batches[1]],
            "only_a": [_batch(batches[0], name) for name in batches[0] if name not in batches[1]],
            "only_b": [_batch(batches[1], name) for name in batches[1] if name not in batches[0]],
        },
    }


def _batches(record: Record, generation: Generation) -> dict[str | None, int]:
    turns, generations = turns_by_batch(record.state), record.state.generations
    drawn = drawn_of(record.store, generation)
    return {bare(samples): made_in(generations[turns[samples]]) for samples in drawn}


def _batch(turns: Mapping[str | None, int], name: str | None) -> dict[str, Any]:
    return {"samples": name, "made_in": turns[name]}


def _code(a: Record, b: Record, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Modules and distributions that differ; of each checkout the commits, and which changed files differ."""
    last = [(report["sessions"] or [{}])[-1] for report in (old, new)]
    trees = [session.get("checkouts", {}) for session in last]
    nothing: dict[str, Any] = {"commit": None, "diff": None, "untracked": []}
    found: dict[str, Any] = {}
    for name in {**trees[0], **trees[1]}:
        left, right = nothing | trees[0].get(name, {}), nothing | trees[1].get(name, {})
        patches = [_patches(a, left["diff"]), _patches(b, right["diff"])]
        changed = [
            file for file in {**patches[0], **patches[1]} if patches[0].get(file) != patches[1].get(file)
        ]
        found[name] = {
            "commit": {"a": left["commit"], "b": right["commit"]},
            "diff": {"a": bare(left["diff"]), "b": bare(right["diff"])},
            "uncommitted": sorted(changed),
            "untracked": sorted(set(left["untracked"]) ^ set(right["untracked"])),
        }
    is_one = a.directory == b.directory and _seqs(old) == _seqs(new)  # also where nobody knows which code
    modules, installed = (
        {} if is_one else _code_pairs(key, old, new) for key in ("modules", "distributions")
    )
    same = not modules and not installed and not any(map(_differs, found.values()))
    return {"same": same, "modules": modules, "distributions": installed, "checkouts": found}


def _differs(tree: Mapping[str, Any]) -> bool:
    return bool(tree["commit"]["a"] != tree["commit"]["b"] or tree["uncommitted"] or tree["untracked"])


def _seqs(report: Mapping[str, Any]) -> list[int]:
    return [session["seq"] for session in report["sessions"]]


def _code_pairs(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Modules, or distributions, that differ between two generations: {name: hash or version in each}."""
    pairs = differing(_over_sessions(old, key), _over_sessions(new, key))
    return {name: {"a": then, "b": now} for name, (then, now) in pairs.items()}


def _over_sessions(report: Mapping[str, Any], key: str) -> dict[str, str | None]:
    """What a generation's sessions ran, by name; of several things, all in order, e.g. ``HASH, HASH``."""
    found: dict[str, list[str | None]] = {}
    for session in report["sessions"]:
        for name, value in session[key].items():
            found.setdefault(name, []).append(value)
    return {
        name: None if None in values else ", ".join(dict.fromkeys(map(str, values)))
        for name, values in found.items()
    }


def code_diff(run_a: Path, a: int, run_b: Path, b: int) -> str:
    """How the source of B's modules differs from that of A's, as a unified diff, where its text is kept."""
    old, new = _last_code(Record.read(run_a), a), _last_code(Record.read(run_b), b)
    lines = (line for module in sorted({*old, *new}) for line in _module_diff(module, old, new))
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _last_code(record: Record, number: int) -> Mapping[str, Mapping[str, str | None]]:
    record.generation(number)
    return record.code(record.sessions(number)[-1])


def _module_diff(module: str, *codes: Mapping[str, Mapping[str, str | None]]) -> Iterator[str]:
    old, new = ((code.get(module, {}).get("text") or "").splitlines(keepends=True) for code in codes)
    return difflib.unified_diff(old, new, f"a/{module}", f"b/{module}")


def _patches(record: Record, diff: str | None) -> dict[str, str]:
    """{file: its part} of a stored diff."""
    if diff is None or record.is_gone(diff):
        return {}
    text = record.store.get(diff).decode(errors="replace")
    parts = re.split(r"(?m)^diff --git ", text)[1:]
    return {part.partition("\n")[0].rpartition(" b/")[2]: part for part in parts}


def _outcomes(a: Record, before: Generation, b: Record, after: Generation) -> dict[str, Any]:
    """By suite: on which items two generations can be compared, and those whose score changed.

    An item is the same if its row in the suite that the run recorded is, floats included: names may be those
    of other items in another run. A score in a duel says nothing without its opponent.
    """
    old, new = outcomes_of(a, [before]), outcomes_of(b, [after])
    suites = pc.unique(pa.chunked_array([*old["suite"].chunks, *new["suite"].chunks])).to_pylist()
    found = {}
    for suite in suites:
        left, right = (t.filter(pc.equal(t["suite"], suite)) for t in (old, new))
        same_rows = None if a is b else _same_rows(_items(a, suite), _items(b, suite))
        found[suite] = _flips(left, right, same_rows)
    return found


def _items(record: Record, suite: str) -> pa.Table | None:
    """A suite as the run recorded it."""
    seeds = (g.output("seed", f"suite_{suite}") for g in record.state.generations)
    return record.table(next((name for name in seeds if name), None))


def _same_rows(left: pa.Table | None, right: pa.Table | None) -> set[str]:
    """Names of the items whose rows are equal in two tables of items."""
    if left is None or right is None or set(left.column_names) != set(right.column_names):
        return set()
    names = sorted(left.column_names)
    rows = [{row["item"]: repr(row) for row in t.select(names).to_pylist()} for t in (left, right)]
    # repr tells floats apart to the last bit, but not one NaN from another.
    return {item for item, row in rows[0].items() if row == rows[1].get(item)}


def _flips(old: pa.Table, new: pa.Table, same_rows: set[str] | None) -> dict[str, Any]:
    """Items whose score changed, most changed first, of those that can be compared.

    ``same_rows``: names of the items that are the same on both sides; None: all of a name are.
    """
    left, right = (t.select(["item", "opponent", "score"]) for t in (old, new))
    rows = left.join(right, "item", join_type="inner", right_suffix="_b").to_pylist()
    same = [row for row in rows if same_rows is None or row["item"] in same_rows]
    compared = [row for row in same if row["opponent"] == row["opponent_b"]]
    gains = {row["item"]: round(row["score_b"] - row["score"], 9) for row in compared}
    moved = [row for row in compared if gains[row["item"]]]
    moved.sort(key=lambda row: (-abs(gains[row["item"]]), row["item"]))
    gained = sum(gains[row["item"]] > 0 for row in moved)
    return {
        "items": {
            "a": len(left),
            "b": len(right),
            "shared": len(rows),
            "other_rows": len(rows) - len(same),
            "other_opponents": len(same) - len(compared),
            "compared": len(compared),
        },
        "gained": gained,
        "lost": len(moved) - gained,
        "flipped": [{"item": row["item"], "a": row["score"], "b": row["score_b"]} for row in moved],
    }
