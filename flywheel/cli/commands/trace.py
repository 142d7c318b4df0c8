"""Where a sample or a generation came from, and what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from flywheel.cli.commands import add_json, add_run, directory_of, print_json
from flywheel.cli.rendering import by_text, cell_text, fork_text
from flywheel.errors import ExitCode
from flywheel.trackers.console import printable


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--sample", metavar="ID", help="an id of `samples --json`, or its first characters")
    of.add_argument("--generation", type=int, metavar="N")
    of.add_argument("--item", metavar="SUITE/ITEM", help="an evaluated item: from where it went wrong")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--up", action="store_true", help="only what it came from, down to human samples")
    way.add_argument("--down", action="store_true", help="only what came of it")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Ancestors and descendants of a sample, a generation or an evaluated item, by typed edges."""
    from flywheel.lineage.trace import trace

    found = trace(
        directory_of(options),
        sample=options.sample,
        generation=options.generation,
        item=options.item,
        up=not options.down,
        down=not options.up,
    )
    if options.json:
        print_json(found)
    else:
        print(printable("\n".join(lines(found))))
    return ExitCode.FINISHED


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The answer for people."""
    if "item" in found:
        item = found["item"]
        yield f"item {item['item']} of {item['suite']}"
        for row in item["scores"]:
            yield f"  generation {row['generation']} {_verdict(row)}: {row['score']:g}"
        yield from (f"  {line}" for line in _item(item))
    if "sample" in found:
        yield f"sample {found['sample']['id']}"
        for name, value in found["sample"].items():
            if name != "id":
                yield f"  {name.replace('_', ' '):<19} {cell_text(value)}"
    elif "generation" in found:
        yield f"generation {found['generation']}"
    if "up" in found:
        yield "came from"
        for entry in found["up"]:
            yield f"  generation {entry['generation']} {_verdict(entry)}"
            yield from (f"    {_edge(edge)}" for edge in entry["edges"])
    if "down" in found:
        yield from _down(found["down"])


def _item(item: dict[str, Any]) -> Iterator[str]:
    """Since when the champion does worse on an item."""
    champion, last = item["champion"], item["last_scored"]
    if champion is None:
        yield "there is no champion"
        return
    if last != champion:
        scored = "nor was one before it" if last is None else f"the last one that was is generation {last}"
        yield f"the champion, generation {champion}, was not scored on it; {scored}"
    if item["worse_since"] is not None:
        yield f"worse since generation {item['worse_since']}"
    elif item["worse_between"]:
        before, after = item["worse_between"]
        yield f"worse since a generation after {before}, at the latest {after}: those between were not scored"
    elif item["not_compared"]:
        yield "since when it is worse cannot be said: scores against different opponents are not compared"
    elif last is not None:
        yield f"generation {last} does not do worse on it than those before"


def _down(down: dict[str, Any]) -> Iterator[str]:
    came = any(down[kind] for kind in ("generations", "suspect", "samples", "forks"))
    yield "came of it" if came else "nothing came of it"
    for kind, word in (("generations", "generation"), ("suspect", "suspect   ")):
        for entry in down[kind]:
            yield f"  {word} {entry['generation']} {_verdict(entry)}, {by_text(entry['by'])}"
    for batch in down["samples"]:
        yield f"  {batch['rows']} sample{'s' * (batch['rows'] != 1)} made in generation {batch['made_in']}"
    for fork in down["forks"]:
        yield f"  fork {fork_text(fork)}"
    for run in down["unread"]:
        yield f"  not asked: {run['run']}, which cannot be read: {run['why']}"


def _verdict(entry: dict[str, Any]) -> str:
    flags = [flag for flag in ("recalled", "suspect") if entry[flag]]
    return " ".join([entry["status"], *flags])


def _edge(edge: dict[str, Any]) -> str:
    weights = (edge.get("weights") or "")[:12]
    if edge["type"] == "init":
        at = edge.get("forked_from", edge["init"])
        if edge["generation"] is not None:
            at = f"generation {edge['generation']}"
        return f"init           {at} {weights}".rstrip()
    if edge["type"] == "trained_on":
        counts = ", ".join(f"{n} {origin}" for origin, n in sorted(edge["by_origin"].items()))
        return f"trained_on     {counts}; corpus {edge['corpus'][:12]}"
    if edge["type"] == "produced_by":
        maker = "people" if edge["generation"] is None else f"generation {edge['generation']}"
        return f"produced_by    {maker}, made in {edge['made_in']}; samples {edge['samples'][:12]}"
    if edge["type"] == "graded_by":
        return f"graded_by      {edge['grader']}"
    if edge["type"] == "saw":
        return f"saw            samples made in {', '.join(map(str, edge['made_in']))}"
    return f"{edge['type']:<14} generation {edge['generation']}"
