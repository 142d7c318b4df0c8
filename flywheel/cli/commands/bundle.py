"""A generation as a folder for others."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flywheel.cli.commands import add_json, add_runs_dir, directory_of, generation_word, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="directory, RECIPE/NAME, NAME or recipe")
    parser.add_argument("generation", type=generation_word, metavar="GEN", help="number, champion or last")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder")
    add_runs_dir(parser)
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
    report = verify_bundle(folder, run=directory).json()
    if options.json:
        print_json(report)
        return ExitCode.FINISHED
    sizes = [(path.stat().st_size, path.name) for path in sorted(folder.iterdir())]
    print(f"generation {number} of {directory}: {folder}")
    for size, name in sizes:
        print(f"  {size:>12,}  {name}")
    print(f"head  {report['head']}\nsign it with: python -m flywheel sign {folder} --key KEY")
    for flag in record.flags(number):
        if flag != "champion":
            print(f"Generation {number} is {flag}: its card says so.", file=sys.stderr)
    return ExitCode.FINISHED
