"""Asks a new version once of each kind before it serves anybody.

A model server calls a version available that it could load. One that was
exported with other signatures than its manifest tells, or whose numbers are
not finite, must not take the place of one that answers. The pipeline's
InfraValidator compares numbers; this is the last look, for what came another
way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.manifest import AdaptiveManifest
from serving.errors import (
    BackendDeadlineError,
    BackendError,
    BackendUnavailableError,
)
from serving.models.backend import ModelServer
from serving.models.templates import (
    ADAPTIVE_WEIGHTS,
    RANK,
    RECOMMEND,
    encode_feature,
)
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, string_tensor

_ADAPT = "adapt"


async def check_fitness(
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
