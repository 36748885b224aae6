"""Runs the gateway until SIGTERM or SIGINT."""

import gc
import logging
import sys
from collections.abc import Sequence

import uvloop

from serving import logs
from serving.errors import ServingError
from serving.gateway.config import parse_args
from serving.gateway.server import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    config = parse_args(arguments)
    logs.configure(config.log_format)
    # What is there from the start stays: looking through all of it would hold
    # up calls for tens of milliseconds, again and again.
    gc.freeze()
    try:
        uvloop.run(serve(config))
    except ServingError as error:
        logging.getLogger("serving.gateway").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
