"""Asks a new version once of each kind before it serves anybody.

A model server calls a version available that it could load. One that was
exported with other signatures than its manifest tells, or whose numbers are
not finite, must not take the place of one that answers. The pipeline's
InfraValidator compares numbers; this is the last look, for what came another
way.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving.contract.errors import ManifestError
from serving.contract.manifest import AdaptiveManifest
from serving.errors import (
    BackendDeadlineError,
    BackendError,
    BackendUnavailableError,
)
from serving.models.backend import ModelServer
from serving.models.manifests import Manifests
from serving.models.templates import (
    ADAPTIVE_WEIGHTS,
    EMBED,
    ITEM_KNOWN,
    ITEM_VECTOR,
    RANK,
    RECOMMEND,
    SCORE,
    USER_VECTOR,
    encode_feature,
)
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, string_tensor

_ADAPT = "adapt"
# How far a dot product may be from the score that it stands for.
_TOLERANCE = 1e-4

Floats: TypeAlias = NDArray[Any]
# A signature, its inputs, and the shapes of outputs that must be finite.
_Question: TypeAlias = tuple[
    str, Mapping[str, pb.TensorProto], Mapping[str, tuple[int, ...]]
]


async def newest_fit(
    backend: ModelServer,
    manifests: Manifests,
    name: str,
    base_path: Path,
    available: Sequence[int],
    current: int | None,
) -> tuple[tuple[int, AdaptiveManifest] | None, str]:
    """Finds the newest version that is fit, among those after the current.

    Args:
        backend: Has the versions.
        manifests: Reads what they say of themselves.
        name: Name of the model.
        base_path: Folder of its versions.
        available: The versions, newest first.
        current: The one that serves now, if any.

    Returns:
        The version and its manifest, if there is one; and what speaks
        against newer ones, if there are any.

    Raises:
        UnknownModelError: A version is not loaded any more.
        BackendUnavailableError: The server can't be reached.
        BackendDeadlineError: It did not answer in time.
    """
    troubles: list[str] = []
    found = None
    for version in available:
        if version == current:
            break
        try:
            manifest = await manifests.read(base_path / str(version))
            await _check_fitness(backend, name, version, manifest)
        except (BackendUnavailableError, BackendDeadlineError):
            # Says nothing of the version.
            raise
        except (ManifestError, BackendError) as error:
            troubles.append(f"Version {version} is passed over: {error}")
            continue
        found = version, manifest
        break
    return found, " ".join(troubles)


async def _check_fitness(
    backend: ModelServer, name: str, version: int, manifest: AdaptiveManifest
) -> None:
    """Asks a version of each kind, for a user without features.

    Args:
        backend: Has the version.
        name: Name of the model.
        version: The version.
        manifest: What it says of itself.

    Raises:
        UnknownModelError: The version is not loaded any more.
        BackendUnavailableError: The server can't be reached.
        BackendDeadlineError: It did not answer in time.
        BackendError: The version does not answer as it should.
    """
    does_not_serve = f"Version {version} of {name!r} does not serve:"
    answers: dict[str, Floats] = {}
    for signature, inputs, shapes in _questions(manifest):
        outputs = await _ask(backend, name, version, signature, inputs)
        for output, shape in shapes.items():
            values = outputs.get(output)
            if values is None or values.shape != shape:
                raise BackendError(
                    f"{does_not_serve} {signature} gives no {output} of shape "
                    f"{list(shape)}."
                )
            if not np.isfinite(values).all():
                raise BackendError(
                    f"{does_not_serve} what {signature} gives is not finite."
                )
            answers[f"{signature} {output}"] = values
    if manifest.vector_size:
        user, items = (
            answers[f"{EMBED} {output}"]
            for output in (USER_VECTOR, ITEM_VECTOR)
        )
        score = answers[f"{RANK} {SCORE}"]
        if not np.allclose(items @ user[0], score, _TOLERANCE, _TOLERANCE):
            raise BackendError(
                f"{does_not_serve} the vectors of {EMBED} give other scores "
                f"than {RANK}."
            )


def _questions(manifest: AdaptiveManifest) -> Iterator[_Question]:
    size, length = manifest.num_adaptive, manifest.vector_size
    user = {
        **_no_features(manifest),
        ADAPTIVE_WEIGHTS: encode_tensor(manifest.meta_state.initial_weights(1)),
    }
    # An item that no catalogue has: it is scored as one never seen.
    item = string_tensor([""], (1, 1))
    one = encode_tensor(np.ones((1, 1), np.float32))
    k = encode_tensor(np.array(1, np.int32))
    yield RANK, {**user, "item_id": item}, {SCORE: (1, 1)}
    if length:
        vectors = {
            USER_VECTOR: (1, length),
            ITEM_VECTOR: (1, 1, length),
            ITEM_KNOWN: (1, 1),
        }
        yield EMBED, {**user, "item_id": item}, vectors
    yield RECOMMEND, {**user, "k": k, "exclude_item_id": item}, {SCORE: (1, 1)}
    meta_state = {
        key: encode_tensor(value)
        for key, value in manifest.meta_state.inputs().items()
    }
    rows = {"item_id": item, "label": one, "weight": one}
    yield _ADAPT, {**user, **rows, **meta_state}, {ADAPTIVE_WEIGHTS: (1, size)}


async def _ask(
    backend: ModelServer,
    name: str,
    version: int,
    signature: str,
    inputs: Mapping[str, pb.TensorProto],
) -> dict[str, NDArray[Any]]:
    try:
        return await backend.predict(name, version, signature, inputs)
    except (BackendUnavailableError, BackendDeadlineError):
        raise
    except BackendError as error:
        raise BackendError(
            f"Version {version} of {name!r} does not serve: {signature} "
            f"failed. {error}"
        ) from error


def _no_features(manifest: AdaptiveManifest) -> dict[str, pb.TensorProto]:
    entries = [encode_feature(f, [None]) for f in manifest.user_features]
    return dict(pb.PredictRequest.FromString(b"".join(entries)).inputs)
