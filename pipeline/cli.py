"""The command line: `adaptower COMMAND`.

Light on purpose: what a command needs is imported when it runs.
"""

import argparse
import importlib
import os
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata

COMMANDS = (
    "data",
    "run",
    "tune",
    "serve",
    "replay",
    "rebase",
    "evaluate",
    "doctor",
)

_OURS = ("pipeline", "trainer", "components", "serving")
_INTERRUPTED = 130
# As a shell says of what ended by SIGPIPE.
_NOBODY_READS = 141

_EPILOG = """
A first run, start to end (a few minutes):
  adaptower doctor                 is this machine ready?
  adaptower run movielens-100k     train, push, serve, replay, report
  adaptower evaluate               the figures again
  adaptower serve                  serve the pushed model to your own client

adaptower COMMAND --help teaches each command by examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Words after the program's name; the process's own by default.

    Returns:
        The exit code: 0, 1 for an error, 2 for wrong usage, 130 for Ctrl-C,
        141 if the reader of its output went away before the command's end.
    """
    args = make_parser().parse_args(argv)
    _set_environment()
    try:
        command = importlib.import_module(f"pipeline.commands.{args.command}")
        return int(command.run(args))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `adaptower evaluate | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except Exception as error:
        ours = find_our_error(error)
        if ours is None or args.verbose:
            raise
        print(_paragraph(f"error: {ours}"), file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Builds the parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="adaptower",
        description=(
            "User cold start in production: from an interaction log to a "
            "service that learns with every click."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {metadata.version('adaptower')}",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    for name in COMMANDS:
        module = importlib.import_module(f"pipeline.commands.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=textwrap.dedent(module.__doc__ or ""),
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument(
            "--verbose",
            action="store_true",
            help="show the traceback of an error",
        )
        module.add_arguments(command)
    return parser


def find_our_error(error: BaseException) -> BaseException | None:
    """The first error of this project's own in a chain of causes.

    TFX and Beam wrap what a component raises in errors of their own; what
    says how to mend things is the one inside. An error is ours if its class
    derives from one in an `errors` module of ours, so nothing need be
    imported to tell.
    """
    return next((link for link in _chain(error) if _is_ours(link)), None)


def _is_ours(error: BaseException) -> bool:
    modules = (base.__module__.split(".") for base in type(error).__mro__)
    return any(m[0] in _OURS and m[-1] == "errors" for m in modules)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _paragraph(text: str) -> str:
    """Wraps a message for reading, keeping paths and its own lines whole."""
    return "\n".join(
        textwrap.fill(
            line, width=80, break_long_words=False, break_on_hyphens=False
        )
        for line in text.splitlines()
    )


def _set_environment() -> None:
    """Sets what TensorFlow reads when it is first imported."""
    # TFRS is written for Keras 2; a later change of the variable is ignored.
    # A value that somebody set stays, and `adaptower doctor` objects to it.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Google's packages print a page of them on being imported.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")


if __name__ == "__main__":
    sys.exit(main())
