"""Where a sample or a generation came from, and what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, reply
from flywheel.cli.rendering import by_text, cell_text, edge_text, fork_text
from flywheel.lineage.text import number_text

if TYPE_CHECKING:
    from flywheel.lineage.graph import Node
    from flywheel.lineage.trace import Descendants, Trace, TracedItem


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--sample", metavar="ID", help="an id of `samples --json`, or its first characters")
    of.add_argument("--generation", type=generation_word, metavar="N")
    of.add_argument("--item", metavar="SUITE/ITEM", help="an evaluated item: from where it went wrong")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--up", action="store_true", help="only what it came from, down to human samples")
    way.add_argument("--down", action="store_true", help="only what came of it")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Ancestors and descendants of a sample, a generation or an evaluated item, by typed edges."""
    from flywheel.lineage.trace import trace

    answer = trace(
        directory_of(options),
        sample=options.sample,
        generation=options.generation,
        item=options.item,
        up=not options.down,
        down=not options.up,
    )
    return reply(options, answer, lines(answer))


def lines(traced: Trace) -> Iterator[str]:
    """The answer for people."""
    if traced.item is not None:
        yield f"item {traced.item.item} of {traced.item.suite}"
        for row in traced.item.scores:
            yield f"  generation {row.generation} {_verdict(row)}: {number_text(row.score)}"
        yield from (f"  {line}" for line in _item(traced.item))
    if traced.sample is not None:
        yield f"sample {traced.sample.id}"
        for name, value in traced.sample.json().items():
            if name != "id":
                yield f"  {name.replace('_', ' '):<19} {cell_text(value)}"
    elif traced.item is None:
        yield f"generation {traced.generation}"
    if traced.up is not None:
        yield "came from"
        for entry in traced.up:
            yield f"  generation {entry.generation} {_verdict(entry)}"
            yield from (f"    {edge.type:<14} {edge_text(edge)}" for edge in entry.edges)
    if traced.down is not None:
        yield from _down(traced.down)


def _item(item: TracedItem) -> Iterator[str]:
    """Since when the champion does worse on an item."""
    champion, last = item.champion, item.last_scored
    if champion is None:
        yield "there is no champion"
        return
    if last != champion:
        scored = "nor was one before it" if last is None else f"the last one that was is generation {last}"
        yield f"the champion, generation {champion}, was not scored on it; {scored}"
    if item.worse_since is not None:
        yield f"worse since generation {item.worse_since}"
    elif item.worse_between:
        before, after = item.worse_between
        yield f"worse since a generation after {before}, at the latest {after}: those between were not scored"
    elif item.not_compared:
        yield "since when it is worse cannot be said: scores against different opponents are not compared"
    elif last is not None:
        yield f"generation {last} does not do worse on it than those before"


def _down(down: Descendants) -> Iterator[str]:
    came = down.generations or down.suspect or down.samples or down.forks
    yield "came of it" if came else "nothing came of it"
    for word, entries in (("generation", down.generations), ("suspect   ", down.suspect)):
        for entry in entries:
            yield f"  {word} {entry.generation} {_verdict(entry)}, {by_text(entry.by)}"
    for batch in down.samples:
        yield f"  {batch.rows} sample{'s' * (batch.rows != 1)} made in generation {batch.made_in}"
    for fork in down.forks:
        yield f"  fork {fork_text(fork)}"
    for run in down.unread:
        yield f"  not asked: {run.run}, which cannot be read: {run.why}"


def _verdict(entry: Node) -> str:
    flags = [flag for flag in ("recalled", "suspect", "abandoned") if getattr(entry, flag)]
    return " ".join([entry.status + (", no test" if entry.untested else ""), *flags])
