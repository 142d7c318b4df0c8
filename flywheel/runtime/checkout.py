"""The code that a session runs: commit, uncommitted changes, files that git does not know."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_DIFF_BYTES = 4 << 20
"""A larger diff is not kept, only its size: it is data that was committed once, not code."""
MAX_UNTRACKED = 200
_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Checkout:
    """A git work tree as it is now."""

    top: Path
    commit: str | None
    """None before the first commit."""
    diff: bytes
    """What ``git apply`` takes to get from the commit to the tracked files as they are."""
    untracked: tuple[str, ...]

    @property
    def kept_diff(self) -> bytes | None:
        """The diff, if there is one and it is not too large to keep."""
        return self.diff if 0 < len(self.diff) <= MAX_DIFF_BYTES else None

    def json(self) -> dict[str, Any]:
        """The record for the ledger; ``untracked`` is cut at a few hundred names, and counted."""
        return {
            "commit": self.commit,
            "dirty": bool(self.diff or self.untracked),
            "diff_bytes": len(self.diff),
            "untracked": list(self.untracked[:MAX_UNTRACKED]),
            "untracked_count": len(self.untracked),
        }


def checkout(folder: Path) -> Checkout | None:
    """The checkout that a folder is in; None outside one, or if git cannot say in time."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    root = Path(os.fsdecode(top.rstrip(b"\n")))
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv")
    diff = _git(root, *changes, "HEAD") if commit else b""
    others = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if diff is None or others is None:
        return None
    names = tuple(sorted(name.decode(errors="replace") for name in others.split(b"\0") if name))
    return Checkout(root, commit.decode().strip() if commit else None, diff, names)


def _git(folder: Path, *words: str) -> bytes | None:
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # to look must not write to the index
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], check=False, capture_output=True, timeout=_SECONDS, env=quiet
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
