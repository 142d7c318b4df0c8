"""What a generation made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.cli.commands import (
    add_config_dir,
    add_run,
    directory_of,
    generation_word,
    print_json_lines,
)
from flywheel.errors import ExitCode
from flywheel.trackers.console import printable

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN, _SHOWN_IN_FULL = 20, 4
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
        "--limit", type=_positive, help="rows to print, from all over the batch (20; --show: 4; --json: all)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--show", action="store_true", help="one after the other, as the recipe's show() draws them"
    )
    form.add_argument("--json", action="store_true", help="print JSON")
    add_config_dir(parser)


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

    directory = directory_of(options)
    rows = read_samples(directory, options.generation)
    undecided = ""
    if options.kept or options.dropped:
        count = len(rows)
        rows, decided = _decided(rows, kept=options.kept)
        undecided = f"{count - decided} of {count} were not decided on" if decided < count else ""
    default = len(rows) if options.json else _SHOWN_IN_FULL if options.show else _SHOWN
    total, limit = len(rows), options.limit or default
    shown = rows.take(pa.array(range(0, total, max(1, -(-total // max(1, limit)))), pa.int64()))
    if options.json:
        print_json_lines(shown)
        if undecided:
            print(undecided, file=sys.stderr)
        return ExitCode.FINISHED
    notes = [f"{len(shown)} of {total} such samples"]
    notes += [f"--limit {total} prints all, --json with provenance"] if total else []
    notes += [undecided] if undecided else []
    if options.show:
        _print_views(directory, options.config_dir, shown)
        print("; ".join(notes))
        return ExitCode.FINISHED
    _print_table(shown, notes)
    return ExitCode.FINISHED


def _print_table(shown: pa.Table, notes: list[str]) -> None:
    from rich.table import Table

    from flywheel.cli.rendering import cell_text
    from flywheel.trackers.console import plain_console

    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    names = [name for name in shown.column_names if name not in _HIDDEN]
    for name in names:
        table.add_column(name, overflow="fold")
    for row in shown.select(names).to_pylist():
        table.add_row(*(cell_text(value) for value in row.values()))
    table.caption, table.caption_justify = "; ".join(notes), "left"
    plain_console().print(table)


def _print_views(directory: Path, config_dir: str | None, shown: pa.Table) -> None:
    """Each sample below a line that says what became of it."""
    from rich.text import Text

    from flywheel.api import open_run
    from flywheel.cli.views import lines_of
    from flywheel.config.search_path import add_working_directory
    from flywheel.trackers.console import plain_console

    add_working_directory()
    viewer, console = open_run(directory, config_dir).viewer(), plain_console()
    if viewer.why:
        print(f"Shown by their columns, not by the recipe: {printable(viewer.why)}", file=sys.stderr)
    for row in shown.to_pylist():
        console.print(Text(f"{row['id']}{_fate(row)}", "dim"))
        console.print(lines_of(viewer(row), console), soft_wrap=True)
        console.print()


def _fate(row: dict[str, Any]) -> str:
    """What became of a sample, as the curator said."""
    if row.get("keep") is None:
        return ""
    reason = f": {row['reason']}" if row.get("reason") else ""
    return printable(f"  {'kept' if row['keep'] else 'dropped'}{reason}")
