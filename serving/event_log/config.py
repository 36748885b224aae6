"""Which event log a program uses, as its flags and its store say."""

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

from serving.event_log.event_log import EventLog, LogConfig
from serving.event_log.lmdb_log import LmdbEventLog
from serving.redis_config import RedisConfig
from serving.store.config import StoreConfig

_FOLDER = "event_log"


def open_event_log(store: StoreConfig, log: LogConfig) -> EventLog:
    """Opens the log that goes with a store.

    It lasts as long as the store does: in the store's folder, in the same
    Redis server, or, beside a store in memory, in a temporary folder that is
    removed when the log is closed. Tombstones are kept as long as the
    store's.

    Args:
        store: Where users' weights are.
        log: How much the log holds, and for how long.

    Raises:
        EventLogError: It can't be opened, or the server can't be reached.
    """
    log = dataclasses.replace(
        log, tombstone_seconds=store.retention.tombstone_seconds
    )
    if store.location is None:
        return _TemporaryEventLog(log)
    if "://" not in store.location:
        return LmdbEventLog(Path(store.location) / _FOLDER, log)
    # Loaded by those who use it: it takes as long as all else together.
    from serving.event_log.redis_log import RedisEventLog

    server = RedisConfig(store.location, durable=store.durable)
    return RedisEventLog(server, log)


class _TemporaryEventLog(LmdbEventLog):
    """A log that ends with the process, as a store in memory does."""

    def __init__(self, config: LogConfig) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="adaptower-")
        super().__init__(self._folder.name, config)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how much a log holds, and for how long."""
    group = parser.add_argument_group(
        "event log", "kept with the store: in its folder, or its Redis server"
    )
    group.add_argument(
        "--log-keep-seconds",
        type=float,
        default=LogConfig.keep_seconds,
        metavar="S",
        help="events stay so long after they are learned, to learn from again "
        "for a new model version; 0 drops them at once; default: %(default)g",
    )
    group.add_argument(
        "--log-dedup-seconds",
        type=float,
        default=LogConfig.dedup_seconds,
        metavar="S",
        help="an event id that is sent again within this time counts once; "
        "default: %(default)g",
    )
    group.add_argument(
        "--log-max-entries",
        type=int,
        default=LogConfig.max_entries,
        metavar="N",
        help="with so many submissions that are not learned yet, no more are "
        "taken in; default: %(default)s",
    )
    group.add_argument(
        "--log-lease-seconds",
        type=float,
        default=LogConfig.lease_seconds,
        metavar="S",
        help="what a worker took, and has not learned from after so long, is "
        "given to another; default: %(default)g",
    )
    group.add_argument(
        "--log-map-bytes",
        type=int,
        default=LogConfig.map_bytes,
        metavar="N",
        help="the most that a log in a folder may grow to; "
        "default: %(default)s",
    )


def take_log_config(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> LogConfig:
    """Takes what `add_log_flags` added out of parsed flags."""
    config = LogConfig(
        keep_seconds=flags.pop("log_keep_seconds"),
        dedup_seconds=flags.pop("log_dedup_seconds"),
        max_entries=flags.pop("log_max_entries"),
        lease_seconds=flags.pop("log_lease_seconds"),
        map_bytes=flags.pop("log_map_bytes"),
    )
    if not 0 <= config.keep_seconds < math.inf:
        parser.error(
            "--log-keep-seconds must be a number of 0 or more, got "
            f"{config.keep_seconds}"
        )
    for name, value in (
        ("dedup-seconds", config.dedup_seconds),
        ("max-entries", config.max_entries),
        ("lease-seconds", config.lease_seconds),
        ("map-bytes", config.map_bytes),
    ):
        if not 0 < value < math.inf:
            parser.error(
                f"--log-{name} must be a number of more than 0, got {value}"
            )
    return config
