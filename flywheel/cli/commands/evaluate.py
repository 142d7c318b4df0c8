"""How good a generation is on items of the user's own."""

import argparse
import json

from flywheel.cli.commands import add_config_dir, add_json, add_run, directory_of, generation_word
from flywheel.errors import ExitCode
from flywheel.lineage.text import estimate_text, number_text


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--items", required=True, metavar="FILE", help=".csv, .jsonl or .parquet")
    parser.add_argument(
        "--generation",
        default="champion",
        type=generation_word,
        metavar="N",
        help="number, champion, last or final (champion)",
    )
    add_config_dir(parser)
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """Score a generation on the items of a file; nothing is recorded."""
    from flywheel.api import open_run
    from flywheel.config.search_path import add_working_directory
    from flywheel.metrics.intervals import mean_interval

    add_working_directory()
    run = open_run(directory_of(options), options.config_dir)
    view = run.generation(options.generation)
    outcomes = view.evaluate(view.read_items(options.items))
    if options.json:
        for row in outcomes.to_pylist():
            print(json.dumps(row))
        return ExitCode.FINISHED
    mean = mean_interval(outcomes["score"].to_numpy(), outcomes["cluster"].to_numpy())
    for row in outcomes.slice(0, _SHOWN).to_pylist():
        print(f"{row['item']:<24}{number_text(row['score'])}")
    if len(outcomes) > _SHOWN:
        print(f"… {len(outcomes) - _SHOWN} more; --json prints all")
    print(f"generation {view.number} of {run.path}: mean {estimate_text(mean)}, {len(outcomes)} items")
    return ExitCode.FINISHED


_SHOWN = 20
