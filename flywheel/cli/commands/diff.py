"""How two generations differ."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from flywheel.cli.commands import add_run, directory_of, generation_of_run, reply, run_named
from flywheel.errors import ExitCode
from flywheel.lineage.text import short

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flywheel.lineage.diff import (
        Change,
        CodeDifference,
        DataDifference,
        Difference,
        GraderSource,
        Pair,
        Start,
        SuiteDifference,
    )

T = TypeVar("T")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("a", type=generation_of_run, metavar="A", help="number, champion, last; or RUN@N")
    parser.add_argument("b", type=generation_of_run, metavar="B", help="another one")
    parser.add_argument("--limit", type=int, default=10, help="changed items to print of each suite (10)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--code", action="store_true", help="print how the source of the modules differs")
    form.add_argument("--json", action="store_true", help="print JSON")


def main(options: argparse.Namespace) -> int:
    """How generation B differs from A: settings, config, data, code, and the items that flipped."""
    from flywheel.lineage.diff import code_diff, diff
    from flywheel.trackers.console import printable

    (run_a, a), (run_b, b) = (
        (run_named(run, options.runs_dir) if run else directory_of(options), which)
        for run, which in (options.a, options.b)
    )
    if options.code:
        print(printable(code_diff(run_a, a, run_b, b)), end="")
        return ExitCode.FINISHED
    report = diff(run_a, a, run_b, b)
    return reply(options, report, _sections(report, options.limit))


def _sections(report: Difference, limit: int) -> Iterator[RenderableType]:
    from rich.text import Text

    from flywheel.cli.rendering import grid_of, section

    a, b = report.a, report.b
    names = [f"generation {side.generation}" for side in (a, b)]
    if a.run != b.run:
        names = [f"{side.run}@{side.generation}" for side in (a, b)]
    titles = [
        f"{name} ({', '.join([side.status, *side.flags])})" for name, side in zip(names, (a, b), strict=True)
    ]
    yield Text(f"{titles[0]} against {titles[1]}", "bold")
    parts = {
        "settings": _changes(report.settings, names),
        "config": _changes(report.config, names),
        "environment": _changes(report.environment, names),
        "init": _pair(report.init, _init_text),
        "grader": _pair(report.grader, _grader_text),
        "data": _data(report.data),
        "code": _code(report.code),
    }
    for name, part in parts.items():
        yield section(name, part)
    same = [name for name, part in parts.items() if part is None]
    yield section("the same", ", ".join(same) or None)
    for suite, flips in report.outcomes.items():
        rows = [(item.item, item.a, item.b) for item in flips.flipped[:limit]]
        more = len(flips.flipped) - len(rows)
        caption = f"… {more} more; --limit {len(flips.flipped)} prints all" if more else ""
        yield section(f"outcomes on {suite}", _flip_text(flips), grid_of(("item", *names), rows, caption))


def _changes(found: Mapping[str, Change], names: list[str]) -> RenderableType | None:
    from flywheel.cli.rendering import grid_of

    rows = [(key, _text(sides, "a"), _text(sides, "b")) for key, sides in found.items()]
    return grid_of(("", *names), rows)


def _text(sides: Change, side: str) -> str:
    """A changed value: as JSON, but a text that became another text, or a list of texts, as it is."""
    from flywheel.config.identity import ABSENT, leaf_text

    if all(isinstance(value, str) for value in sides.values()):
        return str(sides.get(side, "absent"))
    value = sides.get(side, ABSENT)
    is_words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return " ".join(value) if is_words else leaf_text(value)


def _pair(found: Pair[T] | None, text: Callable[[T], str]) -> str | None:
    return f"{text(found.a)} -> {text(found.b)}" if found else None


def _init_text(start: Start | None) -> str:
    return (
        f"{start.init} {short(start.weights) if start.weights else ''}".rstrip() if start else "not trained"
    )


def _grader_text(grader: GraderSource) -> str:
    return f"{grader.grader} {short(grader.version or 'unknown')}" if grader.grader else "none"


def _data(data: DataDifference) -> str | None:
    if data.same:
        return None
    rows, batches = data.rows, data.batches
    lines = [f"{rows.shared} rows shared, of {rows.a} and {rows.b}"]
    for drawn, label in (
        (batches.shared, "batches of both"),
        (batches.only_a, "only the first"),
        (batches.only_b, "only the second"),
    ):
        turns = ", ".join(_batch(batch.made_in) for batch in drawn)
        lines += [f"{label}: {turns}"] if turns else []
    return "\n".join(lines)


def _batch(made_in: int | None) -> str:
    return "human" if made_in == 0 else f"made in {made_in}"


def _code(code: CodeDifference) -> str | None:
    lines = []
    for name, sides in code.modules.items():
        hashes = (", ".join(short(text) for text in sides[side].split(", ")) for side in "ab")
        lines.append(f"module {name}: {' -> '.join(hashes)}")
    lines += [f"installed {name}: {sides['a']} -> {sides['b']}" for name, sides in code.distributions.items()]
    for name, tree in code.checkouts.items():
        if tree.commit.a != tree.commit.b:
            commits = f"{short(tree.commit.a)} {short(tree.commit.b)}"
            lines.append(f"{name}: commits differ, see `git diff {commits}`")
        if tree.uncommitted:
            lines.append(f"{name}: uncommitted changes differ in {', '.join(tree.uncommitted)}")
        if tree.untracked:
            lines.append(f"{name}: untracked in one only: {', '.join(tree.untracked)}")
    return "\n".join(lines) or None


def _flip_text(flips: SuiteDifference) -> str:
    items, parts = flips.items, []
    if items.compared:
        change = f"{flips.gained} gained, {flips.lost} lost, of" if flips.flipped else "no change on"
        parts.append(f"{change} {items.compared} items")
    if items.other_rows:
        parts.append(f"{items.other_rows} not compared: of the same name, but other items")
    if items.other_opponents:
        parts.append(f"{items.other_opponents} not compared: scored against other opponents")
    for scored, name in ((items.a, "first"), (items.b, "second")):
        alone = scored - items.shared
        parts += [f"{alone} that only the {name} was scored on"] if alone else []
    return "\n".join(parts)
