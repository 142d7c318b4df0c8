"""What can be run."""

import argparse

from flywheel.cli.commands import add_config_dir, add_json, reply


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """What can be run: built-in recipes, those of --config-dir, those of installed packages."""
    from flywheel.config.search_path import recipes

    known = recipes(options.config_dir)
    as_json = [{"name": r.name, "summary": r.summary, "source": r.source} for r in known]
    return reply(options, as_json, (f"{r.name:<16}{r.summary}  ({r.source})" for r in known))
