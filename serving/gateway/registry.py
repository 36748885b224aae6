"""Which version of each model the gateway asks, and what its manifest says.

Version and manifest switch together, as one value: a request takes the value
once and pins the version, so it never mixes the weights of one fixed part
with another. Known users were learned for a version before it was pushed, so
that it is available is all there is to wait for; a version that does not
answer as it should is passed over.
"""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.contract.errors import ManifestError
from serving.contract.features import Feature
from serving.contract.guard import Guard
from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_state import MetaState
from serving.errors import (
    BackendDeadlineError,
    BackendError,
    BackendUnavailableError,
    ServingError,
    UnknownModelError,
)
from serving.gateway.backend import ModelServer
from serving.gateway.fitness import check_fitness
from serving.gateway.templates import RequestTemplates

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One version of a model, pinned.

    Attributes:
        name: Name on the model server.
        version: Version that requests name.
        manifest: What that version says of its adaptive part.
        learned_meta_state: What the online stage made of the meta state; None
            for the exported one.
    """

    name: str
    version: int
    manifest: AdaptiveManifest
    learned_meta_state: MetaState | None = None

    @property
    def meta_state(self) -> MetaState:
        """The newest meta state."""
        return self.learned_meta_state or self.manifest.meta_state

    @property
    def meta_init(self) -> NDArray[np.float32]:
        """The newest meta-initialization, float32, shape [P]."""
        return self.meta_state.meta_init

    @functools.cached_property
    def user_features(self) -> Mapping[str, Feature]:
        """The features that requests may carry, by name."""
        return {f.name: f for f in self.manifest.user_features}

    @functools.cached_property
    def guard(self) -> Guard:
        """Which weights learned under this version may be used."""
        manifest = self.manifest
        return Guard.of(manifest.inner_loop, manifest.num_adaptive)

    @functools.cached_property
    def templates(self) -> RequestTemplates:
        """What requests to this version start from."""
        return RequestTemplates(self.name, self.version, self.manifest)


# The newest meta state of a model's version; None stands for the exported.
NewestMetaState = Callable[[str, AdaptiveManifest], MetaState | None]


def _exported(name: str, manifest: AdaptiveManifest) -> None:
    """Where nothing learns, what was exported is the newest."""


class ModelRegistry:
    """The gateway's models by name; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        base_paths: Mapping[str, Path],
        default_model: str,
        newest_meta_state: NewestMetaState = _exported,
    ) -> None:
        """Sets the models up; nothing is known before `refresh`.

        Args:
            backend: The model server that has them.
            base_paths: Folder of each model's versions.
            default_model: The model that the empty name stands for.
            newest_meta_state: Asked whenever a version is looked at.
        """
        self._backend = backend
        self._newest_meta_state = newest_meta_state
        self._base_paths = base_paths
        self._default_model = default_model
        self._served: dict[str, ServedModel] = {}
        self._troubles: dict[str, str] = {}
        self._looking = asyncio.Lock()
        # When the last look began, by the event loop's clock.
        self._looked = 0.0

    @property
    def names(self) -> Collection[str]:
        """Names of the models, whether they can be asked yet or not."""
        return self._base_paths.keys()

    @property
    def default_model(self) -> str:
        """The model that the empty name stands for."""
        return self._default_model

    def served(self, name: str) -> ServedModel | None:
        """Returns the version of a model to ask now, if there is one."""
        return self._served.get(name)

    def trouble(self, name: str) -> str:
        """Returns what the last look for new versions failed with, or ''."""
        return self._troubles.get(name, "")

    @property
    def ready(self) -> bool:
        """Whether every model has a version to ask."""
        return self._served.keys() == self._base_paths.keys()

    def resolve(self, name: str = "") -> ServedModel:
        """Returns the version of a model to ask now.

        Raises:
            UnknownModelError: There is no such model.
            BackendUnavailableError: It has no version that can answer yet.
        """
        name = name or self._default_model
        served = self._served.get(name)
        if served is not None:
            return served
        if name not in self._base_paths:
            raise UnknownModelError(
                f"There is no model {name!r}; served are: "
                f"{', '.join(sorted(self._base_paths))}."
            )
        raise BackendUnavailableError(
            f"Model {name!r} has no version ready to answer yet. See the "
            f"model server's log, and that {self._base_paths[name]} holds a "
            "complete version."
        )

    def version(self, name: str, version: int) -> ServedModel:
        """Returns a certain version of a model, current or not.

        Whether the model server has it loaded shows when it is asked.

        Raises:
            UnknownModelError: The version's manifest can't be read.
        """
        current = self._served.get(name)
        if current is not None and current.version == version:
            return current
        try:
            manifest = _load_manifest(self._base_paths[name] / str(version))
        except ManifestError as error:
            raise UnknownModelError(
                f"Version {version} of model {name!r} is not known: {error}"
            ) from error
        return self._pinned(name, version, manifest)

    def renew(self, name: str) -> None:
        """Has requests from now on use the newest meta state of a model."""
        served = self._served.get(name)
        if served is not None:
            newest = self._newest_meta_state(name, served.manifest)
            if newest is not served.learned_meta_state:
                self._served[name] = dataclasses.replace(
                    served, learned_meta_state=newest
                )

    def _pinned(
        self, name: str, version: int, manifest: AdaptiveManifest
    ) -> ServedModel:
        newest = self._newest_meta_state(name, manifest)
        return ServedModel(name, version, manifest, newest)

    async def refresh(self) -> None:
        """Looks for new versions and meta states once.

        A model whose status or manifest can't be read stays as it is. Those
        who ask at the same time share a look that begins after they asked:
        one that began before might switch to what is gone by now.
        """
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._looking:
            if self._looked <= asked:
                self._looked = clock()
                await self._look()

    async def _look(self) -> None:
        for name in self._base_paths:
            try:
                trouble = await self._refresh_model(name)
                self.renew(name)
            except ServingError as error:
                trouble = str(error)
            except Exception:
                _log.exception("%s: looking for new versions failed", name)
                continue
            # Once per trouble, not once per poll.
            if trouble and self._troubles.get(name) != trouble:
                _log.error("%s", trouble)
            self._troubles[name] = trouble

    async def _refresh_model(self, name: str) -> str:
        """Switches to the newest version that is fit.

        Returns:
            What speaks against newer ones, if there are any.
        """
        current = self._served.get(name)
        troubles: list[str] = []
        for version in await self._backend.available_versions(name):
            if current is not None and current.version == version:
                break
            path = self._base_paths[name] / str(version)
            try:
                manifest = _load_manifest(path)
                await check_fitness(self._backend, name, version, manifest)
            except (BackendUnavailableError, BackendDeadlineError):
                # Says nothing of the version.
                raise
            except (ManifestError, BackendError) as error:
                troubles.append(f"Version {version} is passed over: {error}")
                continue
            self._served[name] = self._pinned(name, version, manifest)
            _log.info(
                "%s: version %d from now on, fingerprint %s, %d adaptive "
                "values per user",
                name,
                version,
                manifest.fingerprint,
                manifest.num_adaptive,
            )
            break
        return " ".join(troubles)

    async def refresh_forever(self, poll_seconds: float) -> None:
        """Keeps looking for new versions until cancelled."""
        while True:
            await asyncio.sleep(poll_seconds)
            await self.refresh()


# Versions are never written again, and few are asked for besides the current.
@functools.lru_cache(maxsize=16)
def _load_manifest(path: Path) -> AdaptiveManifest:
    return AdaptiveManifest.load(path)
