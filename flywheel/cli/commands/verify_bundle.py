"""Whether a bundle is as it was handed over."""

import argparse
from pathlib import Path

from flywheel.cli.commands import add_json, print_json, run_named
from flywheel.errors import ExitCode

_SIGNED = {
    "none": "not signed: this shows accidents, not intent",
    "not checked": "signed; give --key PUB to check by whom",
    "valid": "the signature is of this key",
    "invalid": "the signature is not of this key and these files",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="DIR", help="what `bundle` wrote")
    parser.add_argument("--key", type=Path, metavar="PUB", help="public key that must have signed it, PEM")
    parser.add_argument("--run", metavar="RUN", help="also check that this run's ledger stands behind it")
    parser.add_argument("--runs-dir", default="runs", help="where runs are kept (runs)")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Check a bundle's files and signature; name every file that is tampered with, missing or added."""
    from flywheel.export.verification import verify_bundle

    run = run_named(options.run, options.runs_dir) if options.run else None
    check = verify_bundle(options.bundle, options.key, run)
    if options.json:
        print_json(check)
    elif check.problems:
        for name, text in check.problems:
            print(f"{check.folder / name}: {text}")
    elif about := check.about:
        print(f"{check.folder}: all {check.files} files as written, {_SIGNED[check.signature]}")
        print(f"generation {about.generation} of {about.recipe}/{about.run}, head {about.head}")
        if check.run:
            print(f"{check.run} has that head and those lines")
    return ExitCode.FAILED if check.problems else ExitCode.FINISHED
