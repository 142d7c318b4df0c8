"""Every error that flywheel raises on purpose, and the exit code of each way that a run can end.

    FlywheelError
    ├── ConfigError          a key, value or class path that cannot be used          refused
    │   └── MissingExtra     a library that an extra brings is not installed         refused
    ├── DataError            seed samples or suites that cannot be used              refused
    ├── RunError             a run directory that cannot be used                     refused
    │   ├── IdentityError    it holds a run of another identity
    │   ├── LockedError      another process is writing it
    │   ├── UnwritableError  it cannot be read or written
    │   ├── PrunedError      an object that is needed was dropped by a retention policy
    │   ├── DamagedError     ledger, HEAD or an object is not what was written
    │   └── EndedEarlier     an earlier attempt of torchrun stopped, failed or awaits review
    └── StageFailed          a stage raised or made nothing usable: the generation fails

``Control`` and its kinds are no errors: they carry a stop, an interrupt or a pending review to the loop,
and the death of another rank to the process's end.

Messages say the rule, the value and the remedy, in that order.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from types import MappingProxyType
from typing import Any


class ExitCode(IntEnum):
    """The exit code of the process."""

    FINISHED = 0
    FAILED = 1
    REFUSED = 2
    STOPPED = 3
    AWAITING_REVIEW = 4
    RANK_DIED = 5
    INTERRUPTED = 130

    @classmethod
    def worst(cls, codes: Iterable[int]) -> ExitCode:
        """The exit code of several runs (a multirun): the most serious of theirs."""
        order = [
            cls.INTERRUPTED,
            cls.RANK_DIED,
            cls.FAILED,
            cls.REFUSED,
            cls.STOPPED,
            cls.AWAITING_REVIEW,
            cls.FINISHED,
        ]
        return min((cls(code) for code in codes), key=order.index, default=cls.FINISHED)


class FlywheelError(Exception):
    """Base of all errors that carry a message meant for the user."""

    exit_code = ExitCode.REFUSED


class ConfigError(FlywheelError):
    """A configuration that breaks a rule; raised before anything expensive starts."""


class MissingExtra(ConfigError):
    """An optional library is not installed; the message names the command that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f'{library} is needed here and is not installed. Install it with: pip install "flywheel[{extra}]"'
        )
        self._arguments = (library, extra)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return MissingExtra, self._arguments


class DataError(FlywheelError):
    """Samples or items that cannot be trained or evaluated on."""


class RunError(FlywheelError):
    """A run directory that cannot be read or written as asked."""


class IdentityError(RunError):
    """The directory holds a run whose identity differs from the configuration's."""


class LockedError(RunError):
    """Another process holds the run's writer lock."""


class UnwritableError(RunError):
    """The run's directory cannot be read or written: permission, free space, or no such path."""

    @classmethod
    def of(cls, directory: object, error: OSError) -> UnwritableError:
        """The error for this directory."""
        return cls(
            f"Expected a directory that can be written, got {directory}: {error.strerror}. "
            "Give another runs_dir=, or free some space."
        )


class PrunedError(RunError):
    """An object that a policy dropped to make room; the ledger says which and when."""


class DamagedError(RunError):
    """A line or object differs from what was recorded."""


class EndedEarlier(RunError):
    """An earlier attempt of the same torchrun ended the run by a decision, which a restart does not undo."""

    @classmethod
    def of(cls, code: ExitCode) -> EndedEarlier:
        """The error for the exit code with which the attempt ended; this process ends with it, too."""
        error = cls(
            f"A restart by torchrun is for ranks that died; an earlier attempt ended with exit code "
            f"{code.value} ({code.name.lower().replace('_', ' ')}). To go on, start torchrun again."
        )
        error.exit_code = code
        return error


class StageFailed(FlywheelError):
    """A stage could not do its work; the generation fails with ``reason``."""

    exit_code = ExitCode.FAILED

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.cut_off: dict[str, Any] = {}
        """What the ledger says of the stage: ``generation`` and ``cost``."""

    def __reduce__(self) -> tuple[type[StageFailed], tuple[str, str]]:
        return StageFailed, (self.stage, self.reason)  # errors travel between ranks


class Control(BaseException):
    """Leaves a stage without an outcome. No ``Exception``, so that a recipe cannot swallow it."""

    cut_off: Mapping[str, Any] = MappingProxyType({})
    """What the ledger says of the stage that was left: ``generation`` and ``cost``; empty: none was."""


class StopRequested(Control):
    """A stop was asked for and a step boundary was reached."""


class Interrupted(Control):
    """The second Ctrl-C: leave now. What is recorded stays; the stage under way is done again."""


class AwaitingReview(Control):
    """A person was asked for consent and has not answered yet."""

    def __init__(self, manifest: str = "") -> None:
        super().__init__(manifest)
        self.manifest = manifest
        """The artifact that the person is asked about."""


class RankDied(Control):
    """Another rank of torchrun is gone.

    Nothing is recorded, as the recipe is not at fault, and this process ends, as no collective can
    succeed any more. The next attempt replays and goes on.
    """

    exit_code = ExitCode.RANK_DIED

    @classmethod
    def of(cls, rank: int, cause: str) -> RankDied:
        """The error of this rank, and how a collective noticed that another is gone."""
        return cls(
            f"rank {rank}: another rank died ({cause}); nothing of the stage under way is recorded. "
            "torchrun restarts or ends the run; the same command continues it."
        )


def near_misses(word: str, words: Iterable[str]) -> str:
    """``" Did you mean a or b?"``, or an empty string when nothing is close."""
    import difflib

    close = difflib.get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


@contextmanager
def wrap_user_errors(rule: str) -> Iterator[None]:
    """Raise DataError, with the whole traceback, for what the user's own code raises in the block."""
    try:
        yield
    except FlywheelError:
        raise
    except (Exception, SystemExit) as error:
        trace = "".join(traceback.format_exception(error))
        raise DataError(f"{rule}\n\n{trace}") from error
