"""Asks a new version once of each kind before it serves anybody.

A model server calls a version available that it could load. One that was
exported with other signatures than its manifest tells, or whose numbers are
not finite, must not take the place of one that answers. The pipeline's
InfraValidator compares numbers; this is the last look, for what came another
way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    RANK,
    RECOMMEND,
    encode_feature,
)
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, string_tensor

_ADAPT = "adapt"


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
    """Has a version rank, recommend and adapt for a user without features.

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
    size = manifest.num_adaptive
    user = {
        **_no_features(manifest),
        ADAPTIVE_WEIGHTS: encode_tensor(manifest.meta_state.initial_weights(1)),
    }
    # An item that no catalogue has: it is scored as one never seen.
    item = string_tensor([""], (1, 1))
    one = encode_tensor(np.ones((1, 1), np.float32))
    k = encode_tensor(np.array(1, np.int32))
    for signature, inputs, output, shape in (
        (RANK, {"item_id": item}, "score", (1, 1)),
        (RECOMMEND, {"k": k, "exclude_item_id": item}, "score", (1, 1)),
        (
            _ADAPT,
            {
                "item_id": item,
                "label": one,
                "weight": one,
                **{
                    key: encode_tensor(value)
                    for key, value in manifest.meta_state.inputs().items()
                },
            },
            ADAPTIVE_WEIGHTS,
            (1, size),
        ),
    ):
        outputs = await _ask(
            backend, name, version, signature, {**user, **inputs}
        )
        values = outputs.get(output)
        if values is None or values.shape != shape:
            raise BackendError(
                f"Version {version} of {name!r} does not serve: {signature} "
                f"gives no {output} of shape {list(shape)}."
            )
        if not np.isfinite(values).all():
            raise BackendError(
                f"Version {version} of {name!r} does not serve: what "
                f"{signature} gives is not finite."
            )


async def _ask(
    backend: ModelServer,
    name: str,
    version: int,
    signature: str,
    inputs: dict[str, pb.TensorProto],
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
