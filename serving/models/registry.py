"""Which version of each model the gateway asks, and what its manifest says.

Version and manifest switch together, as one value: a request takes the value
once and pins the version, so it never mixes the weights of one fixed part
with another. Known users were learned for a version before it was pushed, so
that it is available is all there is to wait for; a version that does not
answer as it should is passed over.
"""

import asyncio
import dataclasses
import logging
from collections.abc import (
    Collection,
    Mapping,
    Sequence,
)
from pathlib import Path

from serving.contract.errors import ManifestError
from serving.contract.manifest import AdaptiveManifest
from serving.errors import (
    BackendUnavailableError,
    ServingError,
    UnknownModelError,
)
from serving.models.backend import ModelServer
from serving.models.fitness import newest_fit
from serving.models.manifests import Manifests
from serving.models.meta_state_source import Exported, MetaStateSource
from serving.models.preparations import Preparations
from serving.models.served_model import ServedModel

_log = logging.getLogger(__name__)


class ModelRegistry:
    """The gateway's models by name; lives inside one event loop.

    Attributes:
        before_switch: What is done for a version before it serves.
    """

    def __init__(
        self,
        backend: ModelServer,
        base_paths: Mapping[str, Path],
        default_model: str,
        meta_states: MetaStateSource | None = None,
        manifests: Manifests | None = None,
    ) -> None:
        """Sets the models up; nothing is known before `refresh`.

        Args:
            backend: The model server that has them.
            base_paths: Folder of each model's versions.
            default_model: The model that the empty name stands for.
            meta_states: Asked for each version; None: what was exported.
            manifests: Reads what versions say of themselves.
        """
        self.before_switch = Preparations()
        self._backend = backend
        self._meta_states = meta_states or Exported()
        self._manifests = manifests or Manifests()
        self._base_paths = base_paths
        self._default_model = default_model
        self._served: dict[str, ServedModel] = {}
        # What the model server has, as of the last look, and those of it that
        # requests or experiments have named besides the current ones.
        self._available: dict[str, Sequence[int]] = {}
        self._others: dict[tuple[str, int], ServedModel] = {}
        self._troubles: dict[str, str] = {}
        self._looking = asyncio.Lock()
        # When the last whole look began, by the event loop's clock.
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

    @property
    def in_use(self) -> Collection[ServedModel]:
        """The current versions, and others that were asked for by number."""
        return [*self._served.values(), *self._others.values()]

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

    async def version(self, name: str, version: int) -> ServedModel:
        """Returns a certain version of a model, current or not.

        Whether the model server still has it shows when it is asked. No disk
        is waited for but by the first who name a version beside the current.

        Raises:
            UnknownModelError: The model server did not have the version when
                it was last looked at, or its manifest can't be read.
        """
        current = self._served.get(name)
        if current is not None and current.version == version:
            return current
        available = self._available.get(name, ())
        if version not in available:
            raise UnknownModelError(
                f"Version {version} of model {name!r} is not known; loaded "
                f"are: {', '.join(map(str, available)) or 'none'}."
            )
        other = self._others.get((name, version))
        if other is not None:
            return other
        try:
            manifest = await self._manifests.read_or_remember(
                self._base_paths[name] / str(version)
            )
        except ManifestError as error:
            raise UnknownModelError(
                f"Version {version} of model {name!r} is not known: {error}"
            ) from error
        other = await self._pinned(name, version, manifest)
        return self._others.setdefault((name, version), other)

    def renew(self, name: str) -> None:
        """Has requests from now on use the newest meta states of a model."""
        served = self._served.get(name)
        if served is not None:
            self._served[name] = self._renewed(served)
        for key, other in self._others.items():
            if other.name == name:
                self._others[key] = self._renewed(other)

    def _renewed(self, model: ServedModel) -> ServedModel:
        newest = self._meta_states.newest(model.name, model.manifest)
        if newest is model.learned_meta_state:
            return model
        return dataclasses.replace(model, learned_meta_state=newest)

    async def _pinned(
        self, name: str, version: int, manifest: AdaptiveManifest
    ) -> ServedModel:
        await self._meta_states.look(name, manifest)
        newest = self._meta_states.newest(name, manifest)
        return ServedModel(name, version, manifest, newest)

    async def refresh(self) -> None:
        """Looks for new versions and meta states once.

        A model whose status or manifest can't be read stays as it is. Those
        who ask at the same time share a look that begins after they asked:
        one that began before might switch to what is gone by now. They may be
        without an answer until then, so no switch is prepared meanwhile.
        """
        with self.before_switch.hurried():
            await self.refresh_patiently()

    async def refresh_patiently(self) -> None:
        """Like `refresh`, with time to prepare a switch."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._looking:
            if self._looked <= asked:
                began = clock()
                await self._look()
                # Not of a look that ended with a caller who hung up.
                self._looked = began

    async def _look(self) -> None:
        for name in self._base_paths:
            try:
                trouble = await self._refresh_model(name)
                await self._refresh_meta_states(name)
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
        available = await self._backend.available_versions(name)
        self._available[name] = available
        found, trouble = await newest_fit(
            self._backend,
            self._manifests,
            name,
            self._base_paths[name],
            available,
            None if current is None else current.version,
        )
        if found is not None:
            version, manifest = found
            model = await self._pinned(name, version, manifest)
            # Not while nothing else answers.
            if current is not None and current.version in available:
                await self.before_switch.run(model)
            self._served[name] = model
            if current is not None:
                self._others[name, current.version] = current
            _log.info(
                "%s: version %d from now on, fingerprint %s, %d adaptive "
                "values per user",
                name,
                version,
                manifest.fingerprint,
                manifest.num_adaptive,
            )
        return trouble

    async def _refresh_meta_states(self, name: str) -> None:
        """Takes over what other processes learned, for all that is in use."""
        available = self._available[name]
        for key in [*self._others]:
            if key[0] == name and key[1] not in available:
                del self._others[key]
        in_use = [o for (model, _), o in self._others.items() if model == name]
        if name in self._served:
            in_use.append(self._served[name])
        for model in in_use:
            await self._meta_states.look(name, model.manifest)
        self.renew(name)

    async def refresh_forever(self, poll_seconds: float) -> None:
        """Keeps looking for new versions until cancelled."""
        while True:
            await asyncio.sleep(poll_seconds)
            await self.refresh_patiently()
