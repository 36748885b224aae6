"""Types of command line flags that several servers take."""

import argparse
from pathlib import Path


def model_flag(text: str) -> tuple[str, Path]:
    """Reads `name=base_path`."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form NAME=BASE_PATH, for instance "
            "adaptower=runs/latest/serving/adaptower"
        )
    return name, Path(path)


def port_flag(text: str) -> int:
    """Reads a port number."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port; use a number from 1 to 65535"
        )
    return int(text)


def count_flag(text: str) -> int:
    """Reads how many, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no count; use 0, or a whole number above"
        )
    return int(text)
