"""The report of a run: one HTML file that needs nothing else, and the same charts for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flywheel.errors import ConfigError
from flywheel.views import Viewer

FILE = "report.html"


def write_report(directory: Path, out: Path | None = None, viewer: Viewer | None = None) -> Path:
    """Write the report of a run, by default to ``report.html`` in it; its path.

    Raises DamagedError if the run is not as written, MissingExtra without the libraries that draw,
    ConfigError if ``out`` can be no file.
    """
    from flywheel.report.facts import run_facts
    from flywheel.report.page import run_page
    from flywheel.storage import files

    path = _checked(out or directory / FILE)
    facts = run_facts(directory, *([viewer] if viewer else []))
    files.write_atomic(path, run_page(facts).encode())
    return path


def write_comparison(directories: Sequence[Path], out: Path | None = None) -> Path:
    """Write one page on several runs, by default to ``report.html`` in the working directory; its path.

    Raises ConfigError for less than two, and as ``write_report`` does.
    """
    from flywheel.report.compare import comparison
    from flywheel.report.page import comparison_page
    from flywheel.storage import files

    path = _checked(out or Path(FILE))
    files.write_atomic(path, comparison_page(comparison(directories)).encode())
    return path


def _checked(path: Path) -> Path:
    """Where a page can be written, as far as its place says. Raises ConfigError."""
    if path.is_dir() or not path.parent.is_dir():
        what = "a folder" if path.is_dir() else "a file in a folder that is not there"
        raise ConfigError(f"Expected a file to write the report to, e.g. report.html, got {path}: {what}.")
    return path
