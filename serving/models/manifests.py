"""Manifests of models' versions, read from where they were pushed to.

That may be a network volume: nobody waits long for it, and what could not be
read is not tried again with every request that asks for it.
"""

import asyncio
import functools
from pathlib import Path

from serving.contract.errors import ManifestError
from serving.contract.manifest import AdaptiveManifest
from serving.shared_reads import SharedReads, SlowReadError

_RETRY_SECONDS = 10.0


class Manifests:
    """Reads them beside the event loop that it lives in."""

    def __init__(self, reads: SharedReads | None = None) -> None:
        """Sets it up.

        Args:
            reads: How long is waited for a file.
        """
        self._reads = reads or SharedReads()
        # When each may be tried again, by the event loop's clock, and why.
        self._failed: dict[Path, tuple[float, str]] = {}

    async def read(self, path: Path) -> AdaptiveManifest:
        """Reads a version's manifest.

        Args:
            path: Folder of the version.

        Raises:
            ManifestError: There is none, or it can't be read, or not in time.
        """
        try:
            manifest = await self._reads.read(
                path, functools.partial(AdaptiveManifest.load, path)
            )
        except (ManifestError, SlowReadError) as error:
            words = str(error)
            if isinstance(error, SlowReadError):
                words = f"{path}: {words}"
            again = asyncio.get_running_loop().time() + _RETRY_SECONDS
            self._failed[path] = again, words
            raise ManifestError(words) from error
        self._failed.pop(path, None)
        return manifest

    async def read_or_remember(self, path: Path) -> AdaptiveManifest:
        """Does so, but repeats a failure for a while without the disk."""
        again, words = self._failed.get(path, (0.0, ""))
        if asyncio.get_running_loop().time() < again:
            raise ManifestError(words)
        return await self.read(path)
