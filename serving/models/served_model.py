"""One version of a model, and all that is known of it."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving.contract.features import Feature
from serving.contract.guard import Guard
from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_state import MetaState
from serving.models.templates import RequestTemplates


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
