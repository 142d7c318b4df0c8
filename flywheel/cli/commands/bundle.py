"""A generation as a folder for others."""

import argparse
import sys
from pathlib import Path

from flywheel.cli.commands import add_json, add_run, directory_of, generation_word, reply


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser, required=True)
    parser.add_argument(
        "generation", type=generation_word, metavar="GEN", help="number, champion, last or final"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Write a generation to a folder: weights, config, outcomes, lineage, model card, manifest."""
    from flywheel.export.bundle import bundle
    from flywheel.export.verification import verify_bundle
    from flywheel.lineage.record import Record

    directory = directory_of(options)
    record = Record.read(directory)
    number = record.generation(options.generation).number
    folder = bundle(directory, number, options.out)
    lines = [f"generation {number} of {directory}: {folder}"]
    lines += [f"  {path.stat().st_size:>12,}  {path.name}" for path in sorted(folder.iterdir())]
    lines += [f"head  {record.head}", f"sign it with: python -m flywheel sign {folder} --key KEY"]
    code = reply(options, verify_bundle(folder, run=directory), lines)
    for flag in record.flags(number):
        if flag not in ("champion", "frontier") and not options.json:
            print(f"Generation {number}: {flag}. Its card says so.", file=sys.stderr)
    return code
