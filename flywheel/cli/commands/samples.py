"""What a generation made."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, print_json_lines
from flywheel.errors import ExitCode

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 20
_HIDDEN = ("id", "origin", "made_in", "made_by", "source", "group", "key", "weight")  # shown by --json


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "generation", nargs="?", type=generation_word, metavar="GEN", help="default: the newest"
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--kept", action="store_true", help="those that may be trained on")
    choice.add_argument("--dropped", action="store_true", help="those that may not")
    parser.add_argument(
        "--limit", type=_positive, help="rows to print, from all over the batch (20; --json: all)"
    )
    add_json(parser)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be 1 or more; it is {text!r}")
    return int(text)


def _decided(rows: pa.Table, *, kept: bool) -> tuple[pa.Table, int]:
    """The rows that were kept, or dropped, and how many were decided on at all.

    None were in a turn that failed before it curated, or is not that far yet; and a curator is not shown
    what was recalled.
    """
    import pyarrow.compute as pc

    if "keep" not in rows.column_names:
        return rows.slice(0, 0), 0
    return rows.filter(pc.equal(rows["keep"], kept)), len(rows) - rows["keep"].null_count


def main(options: argparse.Namespace) -> int:
    """Samples of a generation with scores, the rule that decided and how often each was drawn."""
    import pyarrow as pa

    from flywheel.lineage.samples import read_samples

    rows = read_samples(directory_of(options), options.generation)
    undecided = ""
    if options.kept or options.dropped:
        count = len(rows)
        rows, decided = _decided(rows, kept=options.kept)
        undecided = f"{count - decided} of {count} were not decided on" if decided < count else ""
    total, limit = len(rows), options.limit or (len(rows) if options.json else _SHOWN)
    shown = rows.take(pa.array(range(0, total, max(1, -(-total // max(1, limit)))), pa.int64()))
    if options.json:
        print_json_lines(shown)
        if undecided:
            print(undecided, file=sys.stderr)
        return ExitCode.FINISHED
    from rich.table import Table

    from flywheel.cli.rendering import cell_text
    from flywheel.trackers.console import plain_console

    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    names = [name for name in shown.column_names if name not in _HIDDEN]
    for name in names:
        table.add_column(name, overflow="fold")
    for row in shown.select(names).to_pylist():
        table.add_row(*(cell_text(value) for value in row.values()))
    notes = [f"{len(shown)} of {total} such samples"]
    notes += [f"--limit {total} prints all, --json with provenance"] if total else []
    notes += [undecided] if undecided else []
    table.caption, table.caption_justify = "; ".join(notes), "left"
    plain_console().print(table)
    return ExitCode.FINISHED
