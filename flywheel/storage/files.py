"""Durable writes: the only place in lineage that touches the disk to change it.

A file is either not there or whole: written aside, fsynced, renamed, and its directory fsynced
before anything names it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_durable: set[Path] = set()
"""Directories whose own name this process has made durable."""


def make_directory(path: Path) -> None:
    """Create ``path`` and its parents, durably.

    One that is there already may have been made by a process that died before its name was durable, so
    that is seen to once a process, too.
    """
    if path in _durable and path.is_dir():
        return
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # somebody else's folder, which was there before
        sync_directory(path.parent)
    _durable.add(path)


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in ``folder``, and its path, to write and to ``publish``; gone if that does not happen."""
    make_directory(folder)
    aside = folder / f".{os.getpid()}.{len(_open)}.tmp"
    _open.add(aside)
    try:
        with open(aside, "wb") as file:
            yield file, aside
    finally:
        _open.discard(aside)
        with contextlib.suppress(OSError):
            aside.unlink()


_open: set[Path] = set()


def publish(file: BinaryIO, aside: Path, path: Path) -> None:
    """Give a file that was written aside its name, durably."""
    file.flush()
    os.fsync(file.fileno())
    make_directory(path.parent)
    os.replace(aside, path)
    sync_directory(path.parent)


def sweep(directory: Path) -> None:
    """Remove what writers that were killed left aside in a run. Hold the run's lock."""
    for pattern in (".*.tmp", "objects/.*.tmp", "objects/??/.*.tmp"):
        for aside in directory.glob(pattern):
            with contextlib.suppress(OSError):
                aside.unlink()


def open_inside(root: Path, *parts: str) -> int:
    """A descriptor of the regular file ``root/parts``, reached without following a link.

    Raises OSError: a link below ``root``, or no regular file.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        kind = os.O_NONBLOCK if part is parts[-1] else os.O_DIRECTORY
        try:
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return descriptor


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a crash, sees the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_directory(path.parent)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy; see ``write_atomic``."""
    write_atomic(path, array_bytes(array))


def array_bytes(array: np.ndarray) -> bytes:
    """An array as the bytes of an .npy file."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def open_to_append(path: Path) -> BinaryIO:
    """A file to append to, made if it is not there. Raises OSError if it is a link."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o644))


def append(descriptor: int, data: bytes) -> None:
    """Append all of ``data`` to an open file and make it durable."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
