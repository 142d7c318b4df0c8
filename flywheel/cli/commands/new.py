"""Write a recipe of your own."""

import argparse

from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the recipe's name, and that of its package")
    parser.add_argument(
        "--into", default=".", metavar="DIR", help="where to write it (the working directory)"
    )


def main(options: argparse.Namespace) -> int:
    """Write a recipe that runs at once, to be changed into yours: task, model, configuration and test."""
    from flywheel.cli.scaffold import write

    folder = write(options.name, options.into)
    print(f"wrote {folder}: " + ", ".join(str(p.relative_to(folder)) for p in sorted(folder.rglob("*.*"))))
    print("next:" if options.into == "." else f"next, in {options.into}:")
    print(f"  python -m flywheel --config-dir {options.name}/conf recipe={options.name}")
    print(f"  pytest {options.name}")
    return ExitCode.FINISHED
