"""Sign a bundle."""

import argparse
from pathlib import Path

from flywheel.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="DIR", help="what `bundle` wrote")
    parser.add_argument(
        "--key", required=True, type=Path, metavar="KEY", help="private elliptic-curve key, PEM"
    )


def main(options: argparse.Namespace) -> int:
    """Sign a bundle with a key of your own (OpenSSF model signing, offline): writes DIR/model.sig."""
    from flywheel.export.signing import sign

    signature = sign(options.bundle, options.key)
    print(f"{signature}\ncheck it with: python -m flywheel verify-bundle {options.bundle} --key PUB")
    return ExitCode.FINISHED
