"""Show a run in Weights & Biases."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from flywheel.cli.commands import add_config_dir, add_json, add_run, directory_of, reply
from flywheel.errors import RunError


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser, required=True)
    parser.add_argument(
        "--offline", action="store_true", help="write a folder to upload later; no login needed"
    )
    parser.add_argument("--project", help="the W&B project (that of the run's tracker, else flywheel)")
    add_config_dir(parser)
    add_json(parser)
    parser.add_argument("--entity", help="the W&B user or team (likewise, else the login's)")


def main(options: argparse.Namespace) -> int:
    """Show a whole run in W&B from its ledger, also one that had no tracker.

    What W&B has already is left out, so it may be given again at any time.
    """
    from wandb.errors import Error

    from flywheel.api import open_run
    from flywheel.config.search_path import add_working_directory
    from flywheel.trackers.wandb import Wandb
    from flywheel.trackers.wandb_session import is_logged_in

    add_working_directory()
    directory = directory_of(options)
    tracker = Wandb(**_settings(directory))
    given = {"project": options.project, "entity": options.entity}
    asked = {key: value for key, value in given.items() if value is not None}
    tracker.task = open_run(directory, options.config_dir).viewer().task
    try:
        if not (options.offline or is_logged_in()):
            raise RunError(
                "Expected a W&B login, got none. Run `wandb login`, set WANDB_API_KEY, or add --offline, "
                "which writes a folder to upload later."
            )
        done = tracker.sync(directory, "offline" if options.offline else "online", asked)
    except Error as error:
        why = str(error).rstrip(".")
        raise RunError(
            f"W&B cannot be used: {why}. Check the login and the connection, or add --offline."
        ) from error
    upload = f"Upload it with: wandb sync {done.place}" if options.offline else ""
    return reply(options, done, [f"{done.rows} rows, {done.place}", upload])


def _settings(directory: Path) -> dict[str, Any]:
    """Of the tracker: those that the run's own W&B tracker has.

    Raises RunError if nothing can be shown, or another process shows it.
    """
    from flywheel.config.recorded import recorded_config
    from flywheel.lineage.status import read_state
    from flywheel.storage import lock
    from flywheel.trackers.wandb import Wandb

    session = read_state(directory).session
    if session is None:
        raise RunError(f"Expected a run that has begun, got {directory}: no session of it is recorded.")
    target = f"{Wandb.__module__}.{Wandb.__qualname__}"
    tracker = recorded_config(directory, session).get("tracker") or {}
    ours = next((one for one in (tracker, *tracker.values()) if _target(one) == target), None)
    if ours is not None and lock.work_under_way(directory) is lock.Work.RUN:
        raise RunError(f"{directory} is running and shows itself in W&B. Wait for its end, or `stop` it.")
    known = {field.name for field in fields(Wandb)} - {"mode"}
    return {key: value for key, value in (ours or {}).items() if key in known}


def _target(part: Any) -> str | None:
    return part.get("_target_") if isinstance(part, dict) else None
