"""What a configuration asks for: the directory, the run that exists there, and whether it may be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel import ranks
from flywheel.config.components import Components, identity, identity_part, targets_in
from flywheel.config.identity import check_same
from flywheel.errors import RunError, UnwritableError
from flywheel.launch.fork import Origin
from flywheel.lineage.status import read_state
from flywheel.storage import lock
from flywheel.storage.events import finishes
from flywheel.storage.state import RunState, RunStateName

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to start or to resume. Nothing was imported, built or written for it yet."""

    directory: Path
    components: Components
    config_dir: str | None
    recorded: RunState | None
    """The run so far, of the identity that the configuration has; None: it is new."""
    origin: Origin | None
    """The generation of another run that a fork starts from."""
    trusted: frozenset[str]
    """Class paths of the configuration: launching it is to trust them."""

    @classmethod
    def of(
        cls,
        directory: Path,
        components: Components,
        config_dir: str | None,
        recorded: RunState | None = None,
        origin: Origin | None = None,
    ) -> Plan:
        """The plan for a run in a directory; ``recorded``: its state, where it was read already.

        Raises RunError if it cannot be resumed, or not without ``seal=reopen``.
        """

        def checked() -> RunState | None:
            state = recorded or _recorded(directory)
            if state is not None:
                _check_same(directory, state, components.config, origin)
                _check_seal(directory, state, components.resolved)
            return state

        trusted = frozenset(targets_in(components.resolved))
        return cls(directory, components, config_dir, ranks.from_rank_0(checked), origin, trusted)

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended well and the configuration asks for no more."""
        config, state = self.components.resolved, self.recorded
        if state is None or state.name(is_running=False) is not RunStateName.FINISHED:
            return False
        return _is_over(state, config) and not _is_refit_due(state, config)


def _is_over(state: RunState, config: Mapping[str, Any]) -> bool:
    if state.is_over(config["generations"], config["patience"], config["on_failure"]) is not None:
        return True
    budget = config.get("budget") or {}
    is_at_end = finishes(budget) and state.champion is not None and state.current is None
    return is_at_end and state.limit_reached(budget) is not None


def _is_refit_due(state: RunState, config: Mapping[str, Any]) -> bool:
    return bool(config["refit"]) and state.is_refit_due(config["on_failure"])


def refuse_to_go_on(what: object, times: int) -> None:
    """Raise RunError: somebody has seen sealed figures, and would choose by them."""
    often = "once" if times == 1 else f"{times} times"
    raise RunError(
        f"A run ends when its sealed suites are opened; those of {what} were opened {often}. To go on "
        "all the same give seal=reopen: they are opened again, and how often stands beside every sealed "
        "figure. Or fork the run with a task that has other sealed items."
    )


def directory_of(config: DictConfig) -> Path:
    """Where the run lies: ``runs_dir/recipe/name``; by default the name is the seed and the identity."""
    name = config.name or f"seed{config.seed}-{identity(config)[:8]}"
    return Path(str(config.runs_dir), str(config.recipe), name)


def _recorded(directory: Path) -> RunState | None:
    try:
        return read_state(directory) if (directory / "ledger.jsonl").exists() else None
    except OSError as error:
        raise UnwritableError.of(directory, error) from error


def _check_same(directory: Path, state: RunState, config: DictConfig, origin: Origin | None) -> None:
    if origin:
        origin.refuse_another(directory, state)
    if state.created is not None:
        check_same("config", directory, state.created.config, identity_part(config))
    if lock.is_held(directory):
        lock.refuse(directory)


def _check_seal(directory: Path, state: RunState, config: Mapping[str, Any]) -> None:
    """Refuse to make generations, or to look at a frontier or another champion, after an opening.

    What is left of that opening may be done, and a run that ``seal=reopen`` let go on may be resumed.
    """
    if config["seal"] == "reopen" or not state.needs_reopen:
        return
    is_due = _is_refit_due(state, config) or state.is_look_due(is_over=True)
    more = not _is_over(state, config) or is_due
    if more or not {g.number for g in state.champions_to_look_at} <= state.unsealed:
        refuse_to_go_on(directory, state.times_opened)
