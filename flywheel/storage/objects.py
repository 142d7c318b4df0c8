"""The files below ``objects/``, and those among them that no event names."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(rb"[0-9a-f]{64}\.[a-z]+")


def sizes(directory: Path) -> dict[str, int]:
    """Size of each file in the folders of ``objects/``, by its path within the run. Follows no link."""
    objects = directory / "objects"
    folders = [] if objects.is_symlink() or not objects.is_dir() else sorted(objects.iterdir())
    real = (folder for folder in folders if folder.is_dir() and not folder.is_symlink())
    files = (path for folder in real for path in sorted(folder.iterdir()) if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_size for path in files}


def orphans(directory: Path) -> dict[str, int]:
    """Sizes of files that no event names, whatever for: what a crash left.

    Of a run that is being written, also what a stage has made and not recorded yet.
    """
    text = (directory / "ledger.jsonl").read_bytes()
    named = {found.decode() for found in _NAME.findall(text)}
    return {path: size for path, size in sizes(directory).items() if artifact(path) not in named}


def artifact(path: str) -> str:
    """Name of the artifact whose path is ``objects/ab/cd….suffix``."""
    return "".join(Path(path).parts[-2:])
