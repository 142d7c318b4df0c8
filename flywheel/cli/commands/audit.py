"""Are the samples that a turn kept right? What a trusted grader found, and rows for a person to label."""

from __future__ import annotations

import argparse
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, print_json
from flywheel.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.lineage.status import AuditStatus


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "generation",
        nargs="?",
        default=None,
        type=generation_word,
        metavar="GEN",
        help="default: the newest turn",
    )
    parser.add_argument(
        "--size", type=int, default=200, help="kept rows to draw where there was no audit (200)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--out", metavar="FILE", help="write the rows for a person to label: .csv, .jsonl, .parquet"
    )
    form.add_argument("--labels", metavar="FILE", help="such a file with labels: say how many are right")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """How many of the samples that a turn kept are right; rows to label, or what labels say."""
    import pyarrow as pa

    from flywheel.lineage.samples import audit_rows
    from flywheel.lineage.status import NO_AUDIT, AuditStatus

    generation, rows = audit_rows(directory_of(options), options.generation, options.size)
    if options.out:
        label = _label_of(rows)
        _write(rows.append_column(label, pa.nulls(len(rows), pa.string())), Path(options.out))
        print(f"{len(rows)} kept rows of generation {generation.number} in {options.out}: fill in {label!r}")
        return ExitCode.FINISHED
    found = _labelled(rows, options.labels) if options.labels else AuditStatus.of(generation)
    if options.json:
        print_json(found)
        return ExitCode.FINISHED
    print(NO_AUDIT if found is None else f"generation {generation.number}: {found}")
    return ExitCode.FINISHED


def _label_of(rows: pa.Table) -> str:
    """The column for a person's labels: the samples of a task may have a ``label`` of their own."""
    names = chain(("label", "right"), (f"right_{number}" for number in count(2)))
    return next(name for name in names if name not in rows.column_names)


def _write(rows: pa.Table, path: Path) -> None:
    import json

    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.exists():
        raise ConfigError(
            f"--out must be a file that is not there yet: {path} may have labels. Give another one, or read "
            f"it with --labels {path}."
        )
    nested = [field.name for field in rows.schema if pa.types.is_nested(field.type)]
    if path.suffix == ".csv" and nested:
        raise ConfigError(f"A .csv file has no lists; {nested} are some. Give --out FILE.jsonl.")
    if path.suffix == ".csv":
        csv.write_csv(rows, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows.to_pylist()))
    elif path.suffix == ".parquet":
        parquet.write_table(rows, path)
    else:
        raise ConfigError(f"--out must be a .csv, .jsonl or .parquet file; it is {str(path)!r}.")


def _labelled(rows: pa.Table, path: str) -> AuditStatus:
    """What a file's labels say of the rows."""
    import pyarrow.compute as pc

    from flywheel.graders import Labels
    from flywheel.keys import Key
    from flywheel.lineage.status import AuditStatus
    from flywheel.metrics.proportions import proportion

    keys = Key.root(0).each(rows["id"].to_pylist())
    answers = Labels(path=path, label=_label_of(rows)).grade(rows, lambda: None, keys)["labelled"].drop_null()
    right = pc.sum(pc.greater_equal(answers, 0.5)).as_py() or 0
    share = proportion(right, len(answers)) if len(answers) else None
    return AuditStatus("Labels", len(answers), share, None, None, None)
