"""The online stage in a process of its own, without the RPCs.

Over a Redis server, workers share the event log with the gateways and with
each other: the more there are, the more users are learned from per second.
"""

import argparse
import asyncio
import logging
import signal
from collections.abc import Sequence

import uvloop

from serving import logs
from serving.errors import ServingError
from serving.online.learning_config import (
    LearningConfig,
    add_learning_flags,
    take_learning_flags,
)
from serving.online.parts import open_parts

_log = logging.getLogger(__name__)

# A read ends sooner when there is something to learn from.
_READ_WAIT_SECONDS = 0.5


async def work(config: LearningConfig) -> None:
    """Learns from the log until SIGTERM or SIGINT, then ends what has begun.

    Raises:
        LaunchError: A file or the port of the metrics can't be used.
        StoreError: The store can't be opened.
        EventLogError: The log can't be opened.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_parts(config, _READ_WAIT_SECONDS) as parts:
        if config.metrics_port is not None:
            parts.metrics.serve(config.host, config.metrics_port)
        await parts.registry.refresh()
        refresher = asyncio.create_task(
            parts.registry.refresh_forever(config.poll_seconds)
        )
        parts.stage.start()
        _log.info("Learning from %s", type(parts.log).__name__)
        await stopped.wait()
        refresher.cancel()
        await parts.stage.close(config.grace_seconds)
        _log.info("Stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Works until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.online work",
        description=(
            "Learns users' weights from the event log, as gateways do, and "
            "answers no requests. Takes the gateway's own flags of models, "
            "store and log; every process that learns from a log needs the "
            "same models."
        ),
    )
    add_learning_flags(parser)
    flags = vars(parser.parse_args(arguments))
    learning = take_learning_flags(flags, parser)
    config = LearningConfig(**learning, **flags)
    logs.configure(config.log_format)
    try:
        uvloop.run(work(config))
    except ServingError as error:
        _log.error("%s", error)
        return 1
    return 0
