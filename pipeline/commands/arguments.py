"""Arguments that several commands share."""

import argparse
import math
import pathlib

_DAY_SECONDS = 24 * 3600.0


def positive(text: str) -> int:
    """Reads a whole number above zero."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


def days(text: str) -> float:
    """Reads days of more than zero, as the gateways do; in seconds."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected a number of more than 0, got {text}"
        )
    return value * _DAY_SECONDS


def hyper_parameter(text: str) -> tuple[str, str]:
    """Reads NAME=VALUE; the trainer knows names and types."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which dataset is meant, and where its files and runs are."""
    parser.add_argument(
        "dataset",
        nargs="?",
        default="movielens-100k",
        help="shipped dataset or path of a YAML spec (default: %(default)s)",
    )
    parser.add_argument(
        "--data-path",
        type=pathlib.Path,
        metavar="PATH",
        help="folder or archive that holds the files already",
    )
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        default=pathlib.Path("runs"),
        metavar="FOLDER",
        help="where runs are kept (default: %(default)s)",
    )


def add_hyper_parameters(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Declares `--set NAME=VALUE`.

    Args:
        parser: Gets the argument.
        meaning: What the command makes of one.
    """
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=hyper_parameter,
        metavar="NAME=VALUE",
        help=f"{meaning}; may be given more than once",
    )
