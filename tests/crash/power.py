"""A fake file layer: it sees each fsync, and knows what a loss of power at that instant would leave."""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

Mode = Literal["lost", "names", "torn"]


@dataclass
class Instant:
    """The disk just before an fsync: what is durable by inode, and what a reader sees."""

    data: dict[int, bytes]
    names: dict[int, dict[str, int]]
    seen: dict[str, tuple[int, bytes | None]]
    """Path -> inode and content; None: a directory."""


@dataclass
class Power:
    """Watches a folder. ``lost``: only what was synced survives, names only if their directory was.

    ``names``: all names survive, with the bytes that were synced. ``torn``: of the bytes that were not
    synced, too, some first part.
    """

    root: Path
    data: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    instants: list[Instant] = field(default_factory=list)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self._note()
            real(descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                entries = os.scandir(f"/proc/self/fd/{descriptor}")
                self.names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
            else:
                self.data[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

        patch.setattr(os, "fsync", fsync)

    def _note(self) -> None:
        seen: dict[str, tuple[int, bytes | None]] = {}
        for folder, folders, names_here in os.walk(self.root):
            for name in (*folders, *names_here):
                path = Path(folder, name)
                content = None if name in folders else path.read_bytes()
                seen[str(path.relative_to(self.root))] = path.lstat().st_ino, content
        names = {inode: dict(entries) for inode, entries in self.names.items()}
        self.instants.append(Instant(dict(self.data), names, seen))

    def after_loss(self, instant: Instant, mode: Mode, into: Path) -> None:
        """Write what is left into an empty folder."""
        if mode == "lost":
            self._durable(instant, self.root.stat().st_ino, into)
            return
        for name, (inode, content) in instant.seen.items():
            if content is None:
                (into / name).mkdir(parents=True, exist_ok=True)
                continue
            kept = instant.data.get(inode, b"")
            if mode == "torn" and content.startswith(kept):
                kept = content[: random.Random(name).randint(len(kept), len(content))]
            (into / name).write_bytes(kept)

    def _durable(self, instant: Instant, inode: int, into: Path) -> None:
        folders = {ino for ino, content in instant.seen.values() if content is None}
        for name, inner in instant.names.get(inode, {}).items():
            if inner in folders:
                (into / name).mkdir()
                self._durable(instant, inner, into / name)
            else:
                (into / name).write_bytes(instant.data.get(inner, b""))
