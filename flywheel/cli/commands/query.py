"""SQL over a run."""

import argparse
import sys

from flywheel.cli.commands import add_json, add_run, directory_of, print_json_lines
from flywheel.errors import ExitCode

_EPILOG = """\
tables: generations, events, samples, decisions, outcomes, edges; `query RUN "DESCRIBE samples"` lists columns

examples
  query RUN "SELECT generation, status, seconds FROM generations"
  query RUN "SELECT reason, count(*) AS n FROM samples GROUP BY reason ORDER BY n DESC"
  query RUN "SELECT item, score FROM outcomes WHERE generation = 2 AND suite = 'gate' AND score < 1"
  query RUN "SELECT stage, content->>'$.cost.seconds' AS seconds FROM events WHERE event = 'stage'"
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    add_run(parser, required=True)
    parser.add_argument("sql", metavar="SQL", help="one SELECT (DuckDB); - reads it from standard input")
    parser.add_argument("--limit", type=int, default=50, help="rows to print (50); --json prints all")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    """The answer to one SQL SELECT over a run's tables, read-only: no file or network can be reached."""
    from flywheel.lineage.sql import query

    sql = sys.stdin.read() if options.sql == "-" else options.sql
    answer_table = query(directory_of(options), sql)
    if options.json:
        print_json_lines(answer_table)
        return ExitCode.FINISHED
    from flywheel.cli.rendering import answer
    from flywheel.trackers.console import plain_console

    console = plain_console()
    rows = [list(row.values()) for row in answer_table.slice(0, options.limit).to_pylist()]
    console.print(answer(console, answer_table.column_names, rows))
    if len(answer_table) > options.limit:
        print(f"{options.limit} of {len(answer_table)} rows; --limit {len(answer_table)} prints all")
    return ExitCode.FINISHED
