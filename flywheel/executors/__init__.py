"""Executors: who does the units of a stage. See ``flywheel.protocols.Executor``."""

from __future__ import annotations

from collections.abc import Callable

from flywheel import ranks
from flywheel.executors.inline import Inline
from flywheel.executors.torchrun import Ranks
from flywheel.protocols import Executor

__all__ = ["Inline", "Ranks", "executor_of_process"]


def executor_of_process(check: Callable[[], None]) -> Executor:
    """The executor for this process: the ranks of torchrun where there are several."""
    return Ranks(check) if ranks.world_size() > 1 else Inline(check)
