"""Checks of a SavedModel without a server: size, manifest, signatures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.served_model import ServedModel
from serving.contract.manifest import AdaptiveManifest

EMBED = "embed"
# How far a dot product may be from the score that it stands for.
_TOLERANCE = 1e-4

# Inputs beside the user features, and outputs, of each signature.
_INPUTS = {
    "rank": {"item_id", "adaptive_weights"},
    EMBED: {"item_id", "adaptive_weights"},
    "recommend": {"adaptive_weights", "k", "exclude_item_id"},
    "adapt": {
        "item_id",
        "label",
        "weight",
        "adaptive_weights",
        "meta_init",
        "log_inner_lr",
    },
    "meta_gradient": {
        "support_item_id",
        "support_label",
        "support_weight",
        "query_item_id",
        "query_label",
        "query_weight",
        "meta_init",
        "log_inner_lr",
    },
}
_OUTPUTS = {
    "rank": {"score", "item_known"},
    EMBED: {"user_vector", "item_vector", "item_known"},
    "recommend": {"item_id", "score"},
    "adapt": {
        "adaptive_weights",
        "loss_before",
        "loss_after",
        "event_loss",
        "event_loss_meta_init",
        "item_known",
    },
    "meta_gradient": {"loss", "meta_init_gradient", "log_inner_lr_gradient"},
}


def size_reasons(model_dir: Path, max_bytes: int) -> list[str]:
    """Refuses a SavedModel that is larger than a server should load."""
    size = sum(
        path.stat().st_size for path in model_dir.rglob("*") if path.is_file()
    )
    if size <= max_bytes:
        return []
    return [
        f"the SavedModel has {size / 2**20:.1f} MiB, the limit is "
        f"{max_bytes / 2**20:.1f} MiB (max_model_bytes)"
    ]


def manifest_reasons(
    manifest: AdaptiveManifest, model_name: str | None
) -> list[str]:
    """Refuses a manifest that serving could not work with."""
    reasons = []
    if not manifest.num_adaptive:
        reasons.append("the manifest names no adaptive parameter")
    if not manifest.fingerprint:
        reasons.append(
            "the manifest has no fingerprint, so weights of another model "
            "could be applied to this one"
        )
    if model_name is not None and manifest.model_name != model_name:
        reasons.append(
            f"the manifest says model {manifest.model_name!r}, it is to be "
            f"served as {model_name!r}"
        )
    return reasons


def signature_reasons(model: ServedModel) -> list[str]:
    """Refuses signatures that differ from the contract's."""
    reasons = []
    manifest = model.manifest
    features = {feature.name for feature in manifest.user_features}
    signatures: Mapping[str, Any] = model.saved_model.signatures
    for name, own_inputs in _INPUTS.items():
        if name == EMBED and not manifest.vector_size:
            # Such a model's scores are all its own.
            continue
        if name not in signatures:
            reasons.append(f"the signature {name!r} is absent")
            continue
        inputs = signatures[name].structured_input_signature[1]
        outputs = set(signatures[name].structured_outputs)
        reasons += _difference(
            f"inputs of {name!r}", own_inputs | features, set(inputs)
        )
        reasons += _difference(f"outputs of {name!r}", _OUTPUTS[name], outputs)
        shapes = {
            "adaptive_weights": (None, manifest.num_adaptive),
            "meta_init": (manifest.num_adaptive,),
            "log_inner_lr": manifest.meta_state.log_inner_lr.shape,
        }
        for input_name in sorted(shapes.keys() & inputs.keys()):
            taken = inputs[input_name].shape
            if not taken.is_compatible_with(shapes[input_name]):
                reasons.append(
                    f"{name!r} takes {input_name} of shape {taken}, the "
                    f"manifest says {list(shapes[input_name])}"
                )
    return reasons


def vector_reasons(
    manifest: AdaptiveManifest,
    vectors: Mapping[str, NDArray[Any]],
    score: NDArray[Any],
) -> list[str]:
    """Refuses vectors that don't give the scores of `rank`.

    Args:
        manifest: Of the model.
        vectors: What `embed` gives for some users and candidates.
        score: What `rank` gives for the same.
    """
    user, items = vectors["user_vector"], vectors["item_vector"]
    if user.shape[-1] != manifest.vector_size:
        return [
            f"vectors of {EMBED!r} have {user.shape[-1]} values, the manifest "
            f"says {manifest.vector_size}"
        ]
    worst = float(np.abs(np.einsum("bnv,bv->bn", items, user) - score).max())
    # What is not finite, the server's answers show.
    if worst > _TOLERANCE:
        return [
            f"dot products of what {EMBED!r} gives differ by up to "
            f"{worst:.2g} from the scores of 'rank'"
        ]
    return []


def _difference(what: str, expected: set[str], found: set[str]) -> list[str]:
    reasons = []
    if expected - found:
        reasons.append(f"{what} lack {sorted(expected - found)}")
    if found - expected:
        reasons.append(f"{what} have unknown {sorted(found - expected)}")
    return reasons
