"""Which store a program uses, as its flags say."""

import argparse
import dataclasses
import logging
import math
from typing import Any

from serving.lmdb_file import DEFAULT_MAP_BYTES
from serving.redis_config import RedisConfig
from serving.store.adaptive_store import AdaptiveStore
from serving.store.lmdb_store import LmdbStore
from serving.store.memory_store import MemoryStore
from serving.store.tombstone import Retention

_log = logging.getLogger(__name__)

_DAY = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class StoreConfig:
    """Where users' weights are, and for how long.

    Attributes:
        location: Folder of an LMDB store, or address of a Redis server
            (`redis://`, `rediss://`, `unix://`); None keeps them in memory.
        map_bytes: The most that an LMDB store may grow to.
        durable: Whether writes to Redis wait for its disk.
        retention: How long records and tombstones are kept.
    """

    location: str | None = None
    map_bytes: int = DEFAULT_MAP_BYTES
    durable: bool = True
    retention: Retention = dataclasses.field(default_factory=Retention)


def open_store(config: StoreConfig) -> AdaptiveStore:
    """Opens the store.

    Raises:
        StoreError: It can't be opened, or the server can't be reached.
    """
    if config.location is None:
        _log.warning(
            "No --store: users' weights are in memory and end with the process"
        )
        return MemoryStore(config.retention)
    if "://" not in config.location:
        return LmdbStore(config.location, config.map_bytes, config.retention)
    # Loaded by those who use it: it takes as long as all else together.
    from serving.store.redis_store import RedisStore

    server = RedisConfig(config.location, durable=config.durable)
    return RedisStore(server, config.retention)


def add_store_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which store."""
    parser.add_argument(
        "--store",
        metavar="FOLDER|URL",
        help="where users' weights are kept: a folder on a local disk, or "
        "redis://, rediss:// or unix:// of a Redis or Valkey server that "
        "several gateways share; without it they are in memory and lost at "
        "the end",
    )
    parser.add_argument(
        "--store-map-bytes",
        type=int,
        default=DEFAULT_MAP_BYTES,
        metavar="N",
        help="the most that a folder may grow to, 0: as the gateways have it; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--store-not-durable",
        action="store_true",
        help="do not wait until Redis has synced a write to its disk: "
        "quicker, but if the server crashes, about its last second is lost",
    )
    parser.add_argument(
        "--store-ttl-days",
        type=float,
        default=None,
        metavar="D",
        help="forget users unseen for so long; default: never",
    )
    parser.add_argument(
        "--tombstone-days",
        type=float,
        default=Retention.tombstone_seconds / _DAY,
        metavar="D",
        help="for so long nothing of a deleted user is taken in; "
        "default: %(default)s",
    )


def take_store_config(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> StoreConfig:
    """Takes what `add_store_flags` added out of parsed flags."""
    ttl_days = flags.pop("store_ttl_days")
    tombstone_days = flags.pop("tombstone_days")
    for name, days in (("store-ttl", ttl_days), ("tombstone", tombstone_days)):
        if days is not None and not 0 < days < math.inf:
            parser.error(
                f"--{name}-days must be a number of more than 0, got {days}"
            )
    return StoreConfig(
        location=flags.pop("store"),
        map_bytes=flags.pop("store_map_bytes"),
        durable=not flags.pop("store_not_durable"),
        retention=Retention(
            None if ttl_days is None else ttl_days * _DAY,
            tombstone_days * _DAY,
        ),
    )
