"""``python -m flywheel``."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from flywheel.cli.main import main as cli_main

    sys.exit(cli_main(sys.argv[1:]))


if __name__ == "__main__":
    main()
