"""The adaptive manifest: what a pushed SavedModel says of its adaptive part.

It lies in the SavedModel as `assets.extra/adaptive_manifest.json`. Weights
that were learned for one fingerprint are never applied under another, same
shapes or not.
"""

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.contract.errors import ContractError, ManifestError
from serving.contract.features import Feature
from serving.contract.meta_state import MetaState

MANIFEST_FILE = "assets.extra/adaptive_manifest.json"
FORMAT = 3
# One without `vector_size` is read as well: such models are still served.
_READ_FORMATS = (2, FORMAT)


@dataclasses.dataclass(frozen=True)
class AdaptiveParameter:
    """One adaptive parameter's place in the flat weights vector.

    Attributes:
        name: Path of the variable that holds its meta-initialization.
        shape: Its shape for one user.
        offset: Where it starts in the flat vector.
    """

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class AdaptiveManifest:
    """What serving must know of a SavedModel to apply adaptive weights.

    Attributes:
        model_name: Name it is served under.
        fingerprint: Hash of the fixed part (and of the partition).
        parameters: Adaptive parameters in order, without gaps.
        meta_init: Meta-initialization, flat, one float per adaptive value.
        user_features: Features that requests may carry, by name.
        reservoir_events: How many of a user's events the online stage keeps.
        log_inner_lr: Log of the inner loop's step sizes: a row per step, one
            float per adaptive value; no row if the solver takes no steps.
        meta_init_version: Version of the meta state; 0 as trained.
        inner_loop: The inner loop's settings, for people to read.
        evaluation: Figures the model was blessed with; empty before.
        vector_size: Length of the vectors that signature `embed` gives; 0 for
            a model that has no such signature.
    """

    model_name: str
    fingerprint: str
    parameters: tuple[AdaptiveParameter, ...]
    meta_init: tuple[float, ...]
    user_features: tuple[Feature, ...]
    reservoir_events: int
    log_inner_lr: tuple[tuple[float, ...], ...] = ()
    meta_init_version: int = 0
    inner_loop: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    vector_size: int = 0

    def __post_init__(self) -> None:
        offset = 0
        for parameter in self.parameters:
            if parameter.offset != offset:
                raise ManifestError(
                    f"Adaptive parameter {parameter.name!r} starts at "
                    f"{parameter.offset}, expected {offset}: parameters must "
                    "follow each other without gaps. Export the model again."
                )
            offset += parameter.size
        if len(self.meta_init) != offset:
            raise ManifestError(
                f"The meta-initialization has {len(self.meta_init)} values, "
                f"the adaptive parameters {offset}. Export the model again."
            )
        for step, sizes in enumerate(self.log_inner_lr):
            if len(sizes) != offset:
                raise ManifestError(
                    f"Inner step {step} has {len(sizes)} step sizes, expected "
                    f"{offset}: one per adaptive value. Export the model again."
                )
        values = [*self.meta_init, *itertools.chain(*self.log_inner_lr)]
        if not all(map(math.isfinite, values)):
            raise ManifestError(
                "The meta-initialization or the inner step sizes hold values "
                "that are not finite. Don't serve this model; train it again."
            )

    @property
    def num_adaptive(self) -> int:
        """Number of adaptive values per user (P)."""
        return len(self.meta_init)

    @functools.cached_property
    def meta_state(self) -> MetaState:
        """The meta state that the model was exported with."""
        return MetaState.from_dict(
            {
                "version": self.meta_init_version,
                "meta_init": self.meta_init,
                "log_inner_lr": self.log_inner_lr,
            }
        )

    def to_json(self) -> str:
        """Returns the manifest as JSON text, keys in a fixed order."""
        values = {"format": FORMAT, **dataclasses.asdict(self)}
        values["user_features"] = [f.to_dict() for f in self.user_features]
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(
        cls, text: str | bytes, where: str = "manifest"
    ) -> "AdaptiveManifest":
        """Reads what `to_json` wrote.

        Args:
            text: JSON text.
            where: What to call it in an error, usually its path.

        Raises:
            ManifestError: The text is no manifest of this format.
        """
        try:
            values = dict(json.loads(text))
            written_format = values.pop("format", None)
            if written_format not in _READ_FORMATS:
                raise ManifestError(
                    f"{where} has format {written_format!r}, this version "
                    f"reads up to {FORMAT}. Export the model with this version."
                )
            values["parameters"] = tuple(
                AdaptiveParameter(p["name"], tuple(p["shape"]), p["offset"])
                for p in values["parameters"]
            )
            values["meta_init"] = tuple(map(float, values["meta_init"]))
            values["log_inner_lr"] = tuple(
                tuple(map(float, step)) for step in values["log_inner_lr"]
            )
            values["user_features"] = tuple(
                map(Feature.from_dict, values["user_features"])
            )
            return cls(**values)
        except ManifestError:
            raise
        except (ContractError, ValueError, TypeError, KeyError) as error:
            raise ManifestError(
                f"{where} is not an adaptive manifest ({error!r}). "
                "Export the model again."
            ) from error

    @classmethod
    def load(cls, saved_model: str | Path) -> "AdaptiveManifest":
        """Reads the manifest of the SavedModel in a folder.

        Raises:
            ManifestError: There is none, or it can't be read.
        """
        path = Path(saved_model) / MANIFEST_FILE
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ManifestError(
                f"{path} can't be read ({error.strerror}). A model is served "
                "with adaptive weights only if the trainer exported it."
            ) from error
        return cls.from_json(text, where=str(path))

    def save(self, saved_model: str | Path) -> None:
        """Writes the manifest into the SavedModel in a folder."""
        path = Path(saved_model) / MANIFEST_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")
