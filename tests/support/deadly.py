"""SIGKILL at a named point of a write, the n-th time that it is reached: ``PROBE_KILL=POINT:N``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

POINTS = ("half-written", "written", "synced", "renaming", "renamed", "directory-synced")


def install() -> None:
    """Replace what writes, syncs and renames by what dies there."""
    point, _, number = os.environ.get("PROBE_KILL", "").partition(":")
    if not point:
        return
    left = int(number)

    def reached(where: str) -> bool:
        nonlocal left
        left -= where == point
        return where == point and left == 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def at(before: str, real: Callable[..., Any], after: Callable[..., str]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if before and reached(before):
                die()
            result = real(*arguments)
            if reached(after(*arguments)):
                die()
            return result

        return call

    write, fsync = os.write, os.fsync

    def half(descriptor: int, data: Any) -> int:
        if reached("half-written"):
            write(descriptor, bytes(data)[: len(data) // 2])
            die()
        return write(descriptor, data)

    def synced(descriptor: int) -> None:
        is_directory = os.path.isdir(f"/proc/self/fd/{descriptor}")
        if not is_directory and reached("written"):
            die()
        fsync(descriptor)
        if reached("directory-synced" if is_directory else "synced"):
            die()

    os.write, os.fsync = half, synced
    os.replace = at("renaming", os.replace, lambda *_: "renamed")
