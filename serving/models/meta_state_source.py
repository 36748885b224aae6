"""Where the registry learns what became of models' meta states."""

from typing import Protocol

from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_state import MetaState


class MetaStateSource(Protocol):
    """Who knows what became of models' meta states."""

    def newest(self, name: str, manifest: AdaptiveManifest) -> MetaState | None:
        """Returns the newest that is known; None stands for the exported."""

    async def look(self, name: str, manifest: AdaptiveManifest) -> None:
        """Looks whether another process has made a newer one."""


class Exported:
    """Where nothing learns, what was exported is the newest."""

    def newest(self, name: str, manifest: AdaptiveManifest) -> None:
        """Knows of none."""

    async def look(self, name: str, manifest: AdaptiveManifest) -> None:
        """Has nowhere to look."""
