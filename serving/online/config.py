"""How a gateway's meta states learn, as its flags say."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from serving.contract.meta_config import OnlineMetaConfig
from serving.gateway.backend import ModelServer
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_files import MetaStateFiles
from serving.store import AdaptiveStore

INLINE = "inline"
BACKGROUND = "background"
OFF = "off"
MODES = (INLINE, BACKGROUND, OFF)


@dataclasses.dataclass(frozen=True)
class MetaStageConfig:
    """Whether and where meta states learn.

    Attributes:
        mode: `INLINE`: the feedback that completes a batch is answered after
            the step; `BACKGROUND`: before it; `OFF`: no steps, but versions
            in the folder are served.
        folder: Where versions are kept; None: with the store, if that is a
            folder, else in memory.
    """

    mode: str = BACKGROUND
    folder: Path | None = None


def open_meta_stage(
    config: MetaStageConfig,
    backend: ModelServer,
    store: AdaptiveStore,
    location: str | None,
) -> MetaStage:
    """Sets the stage up.

    Args:
        config: What the flags say.
        backend: Answers `meta_gradient`.
        store: The users' weights.
        location: Where they are; None: in memory.
    """
    folder = config.folder
    if folder is None and location is not None and "://" not in location:
        folder = Path(location) / "meta_states"
    return MetaStage(
        backend,
        store,
        OnlineMetaConfig(enabled=config.mode != OFF),
        None if folder is None else MetaStateFiles(folder),
        inline=config.mode == INLINE,
    )


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
        "of one host may share it; default: meta_states in the folder of "
        "--store, else in memory",
    )


def take_meta_config(flags: dict[str, Any]) -> MetaStageConfig:
    """Takes what `add_meta_flags` added out of parsed flags."""
    return MetaStageConfig(
        mode=flags.pop("meta_update"), folder=flags.pop("meta_states")
    )
