"""What can be run."""

from __future__ import annotations

import argparse

from flywheel.cli.commands import add_config_dir, add_json, print_json
from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What can be run: built-in recipes, those of --config-dir, those of installed packages."""
    from flywheel.config.search_path import recipes

    known = recipes(options.config_dir)
    if options.json:
        print_json([{"name": r.name, "summary": r.summary, "source": r.source} for r in known])
        return ExitCode.FINISHED
    for recipe in known:
        print(f"{recipe.name:<16}{recipe.summary}  ({recipe.source})")
    return ExitCode.FINISHED
