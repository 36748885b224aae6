"""How a gateway's meta states learn, as its flags say."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from serving.online.meta_state_files import MetaStateFiles
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.meta_states import MetaStates
from serving.redis_config import RedisConfig
from serving.store.config import StoreConfig

INLINE = "inline"
BACKGROUND = "background"
OFF = "off"
MODES = (INLINE, BACKGROUND, OFF)

_FOLDER = "meta_states"


@dataclasses.dataclass(frozen=True)
class MetaStageConfig:
    """Whether and where meta states learn.

    Attributes:
        mode: `INLINE`: the feedback that completes a batch is answered after
            the step; `BACKGROUND`: before it; `OFF`: no steps, but versions
            that are kept are served.
        folder: Where versions are kept; None: with the store.
    """

    mode: str = BACKGROUND
    folder: Path | None = None


def open_meta_states(
    store: StoreConfig, folder: Path | None = None
) -> MetaStates:
    """Opens the versions of meta states.

    With a store they last as long as it does, and whoever shares the one
    shares the other: in its folder, in the same Redis server, or in memory.

    Args:
        store: Where users' weights are.
        folder: Where versions are; None: with the store.

    Raises:
        StoreError: The server can't be reached.
    """
    if folder is not None:
        return MetaStateFiles(folder)
    if store.location is None:
        return MemoryMetaStates()
    if "://" not in store.location:
        return MetaStateFiles(Path(store.location) / _FOLDER)
    # Loaded by those who use it: it takes as long as all else together.
    from serving.online.meta_state_redis import RedisMetaStates

    return RedisMetaStates(RedisConfig(store.location, durable=store.durable))


def add_meta_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--meta-update",
        choices=MODES,
        default=BACKGROUND,
        help="learn the meta-initialization from users who stream in: before "
        "the feedback that completes a batch is answered (inline), after it, "
        "or not at all; default: %(default)s",
    )
    parser.add_argument(
        "--meta-states",
        type=Path,
        metavar="FOLDER",
        help="where versions of the meta-initialization are kept; gateways "
        "of one host may share it; default: with --store, in its folder "
        "(meta_states) or its Redis server, which all its gateways share",
    )


def take_meta_config(flags: dict[str, Any]) -> MetaStageConfig:
    """Takes what `add_meta_flags` added out of parsed flags."""
    return MetaStageConfig(
        mode=flags.pop("meta_update"), folder=flags.pop("meta_states")
    )
