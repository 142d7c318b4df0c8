"""A run, or several, as one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from flywheel.cli.commands import add_config_dir, add_runs_dir, directory_of, run_named
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    names = "directory, RECIPE/NAME, NAME or recipe; default: newest; several: they are compared"
    parser.add_argument("runs", nargs="*", metavar="RUN", help=names)
    place = "the file to write; default: report.html in the run's directory; of several: in this one"
    parser.add_argument("--out", help=place)
    add_runs_dir(parser)
    add_config_dir(parser)


def main(options: argparse.Namespace) -> int:
    """What came of a run as one HTML file, which opens from disk without network: docs/report.md."""
    from flywheel.api import open_run
    from flywheel.config.search_path import add_working_directory
    from flywheel.report import write_comparison, write_report

    add_working_directory()
    out = Path(options.out) if options.out else None
    names = list(dict.fromkeys(options.runs))
    if len(names) > 1:
        path = write_comparison([run_named(name, options.runs_dir) for name in names], out)
    else:
        options.run = names[0] if names else None
        directory = directory_of(options)
        path = write_report(directory, out, open_run(directory, options.config_dir).viewer())
    print(path)
    return ExitCode.FINISHED
