"""Who beats whom among a run's champions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_config_dir, add_json, add_run, directory_of, reply
from flywheel.errors import ExitCode
from flywheel.lineage.text import estimate_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flywheel.experiments.tournament import Entry, Tournament
    from flywheel.records import Interval


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run(parser)
    parser.add_argument("--suite", metavar="NAME", help="a dev or guard suite (the first dev suite)")
    parser.add_argument("--items", metavar="FILE", help="items of your own: .csv, .jsonl or .parquet")
    parser.add_argument("--duel", action="store_true", help="on these items let them play each other")
    parser.add_argument(
        "--generations", type=_numbers, metavar="0,3,7", help="which generations (all champions)"
    )
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Score all champions of a run on the same items, or let them play each other; nothing is recorded."""
    from flywheel.api import open_run
    from flywheel.config.search_path import add_working_directory
    from flywheel.experiments.tournament import tournament

    add_working_directory()
    found = tournament(
        open_run(directory_of(options), options.config_dir),
        suite=options.suite,
        items=options.items,
        duel=options.duel,
        generations=options.generations,
        report=lambda text: print(text, file=sys.stderr, flush=True),
    )
    reply(options, found, _parts(found))
    return ExitCode.FINISHED


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"Expected numbers of generations, as 0,3,7; got {text!r}.")
    return [int(part) for part in parts]


def _parts(found: Tournament) -> Iterator[RenderableType]:
    from flywheel.cli.rendering import grid_of
    from flywheel.experiments.tournament import points_text

    kind = "a duel, each against each, both ways" if found.duel else "each on the same items"
    of = f", {found.clusters} clusters" if found.clusters < found.items else ""
    yield f"{found.run}: {found.suite}, {kind}; {found.items} items{of}"
    to_ours = {
        one.second if one.first == found.in_force else one.first: one
        for one in found.differences
        if found.in_force in (one.first, one.second)
    }
    rows = [
        (
            f"{'*' if entry.in_force else ' '}{entry.generation}",
            _rank_text(entry),
            *([_rating_text(entry.rating)] if entry.rating else []),
            estimate_text(entry.score),
            *(
                [points_text(to_ours[entry.generation].seen_from(entry.generation))]
                if entry.generation in to_ours
                else [""]
            ),
        )
        for entry in found.entries
    ]
    rating = ["Elo [95%]"] if found.duel else []
    columns = ("gen", "rank", *rating, "score [95%]", "to the one in force [95% together]")
    yield grid_of(columns, rows) or ""
    yield "* champion in force; rank: by the figures, and where it may be by clear differences of pairs"
    if found.role == "dev":
        yield "dev chose settings in each turn: items of your own (--items) tell more"
    yield from (f"generation {number} did not take part: {why}" for number, why in found.left_out.items())
    yield found.sentence


def _rating_text(rating: Interval) -> str:
    """Whole points, e.g. ``35 [-12, 82]``."""
    return f"{rating.value:.0f} [{rating.low:.0f}, {rating.high:.0f}]"


def _rank_text(entry: Entry) -> str:
    """E.g. ``2 [1, 4]``."""
    return f"{entry.rank} [{entry.best_rank}, {entry.worst_rank}]"
