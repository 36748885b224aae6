"""Learns a store's users for a version of the model, and shows how far it is.

What `components.rebase` does on Beam, in this process: for one machine, and
for whoever looks on.
"""

import dataclasses
import os
import pathlib
import time

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from components.rebase.rebaser import (
    KNOWN,
    REBASED,
    Counts,
    RebaseConfig,
    Rebaser,
)
from pipeline.errors import ConfigError
from pipeline.run_config import open_run
from serving.contract.manifest import MANIFEST_FILE
from serving.store.config import StoreConfig


@dataclasses.dataclass(frozen=True)
class FoundModel:
    """A SavedModel to learn for.

    Attributes:
        folder: Where it is.
        store: Where the run keeps its users; None if it is of no run.
    """

    folder: pathlib.Path
    store: pathlib.Path | None = None

    def require_store(self) -> str:
        """Returns the run's store.

        Raises:
            ConfigError: There is none.
        """
        if self.store is None or not self.store.is_dir():
            raise ConfigError(
                "Whose users? Name the gateways' store with --store, a folder "
                "or an address such as redis://localhost."
            )
        return str(self.store)


def find_model(path: pathlib.Path, model_name: str) -> FoundModel:
    """Finds the SavedModel that somebody means.

    Args:
        path: Its folder, or a run, for the version pushed last.
        model_name: Name of the model among those of the run.

    Raises:
        ConfigError: There is no such run, or it pushed no such model.
    """
    if (path / MANIFEST_FILE).is_file():
        return FoundModel(path)
    layout = open_run(path)
    models = layout.models()
    if model_name not in models:
        raise ConfigError(
            f"The run in {layout.root} has pushed no model {model_name!r}, "
            f"only {', '.join(models)}. Choose one with --model-name."
        )
    versions = [
        child
        for child in models[model_name].iterdir()
        if child.name.isdecimal()
    ]
    newest = max(versions, key=lambda version: int(version.name))
    return FoundModel(newest, layout.store)


def rebase_store(
    model_dir: pathlib.Path,
    model_name: str,
    store: StoreConfig,
    console: Console | None = None,
) -> Counts:
    """Learns every user who is behind, batch after batch.

    Args:
        model_dir: The SavedModel to learn for.
        model_name: Name it is served under.
        store: Where its users are; gateways may use it meanwhile.
        console: Where progress goes; standard output by default.

    Returns:
        How many users came to what; see `components.rebase.rebaser`.

    Raises:
        ConfigError: The store is a folder that does not exist.
        ManifestError: The folder holds no such model.
        StoreError: The store can't be used.
    """
    location = os.path.expandvars(str(store.location))
    if "://" not in location and not pathlib.Path(location).is_dir():
        raise ConfigError(
            f"There is no store in {location}. Give --store as the gateways "
            "have it."
        )
    console = console or Console()
    console.print(
        f"Learning the users of {model_name} for {model_dir}", soft_wrap=True
    )
    counts = Counts()
    start = time.monotonic()
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console
    )
    rebaser = Rebaser(RebaseConfig(str(model_dir), model_name, store))
    try:
        with progress:
            task = progress.add_task(_line(counts, 0.0))
            for batch in rebaser.batches(counts):
                counts.update(rebaser.rebase(batch))
                seconds = time.monotonic() - start
                progress.update(task, description=_line(counts, seconds))
    finally:
        rebaser.close()
    _print_outcome(console, counts, time.monotonic() - start)
    return counts


def _line(counts: Counts, seconds: float) -> str:
    rate = counts[REBASED] / seconds if seconds else 0.0
    return (
        f"{counts[KNOWN]:,} users seen, {counts[REBASED]:,} learned, "
        f"{rate:,.0f} a second"
    )


def _print_outcome(console: Console, counts: Counts, seconds: float) -> None:
    console.print(f"{counts[KNOWN]:,} users known, after {seconds:.1f} s:")
    for name, number in counts.most_common():
        if name != KNOWN and number:
            console.print(f"  {name:<10} {number:>10,}", highlight=False)
    if set(counts) <= {KNOWN}:
        console.print("  everybody is learned already")
