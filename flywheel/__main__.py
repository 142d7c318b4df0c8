"""``python -m flywheel``."""

import logging
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from flywheel.cli.main import main as cli_main
    from flywheel.trackers.queued import bound_exit

    logging.raiseExceptions = False  # a tracker's own log on a full disk would flood the terminal
    code = cli_main(sys.argv[1:])
    bound_exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
