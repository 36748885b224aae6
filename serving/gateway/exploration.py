"""Exploration by Thompson sampling on the user's adaptive weights.

The inner loop minimizes a logistic loss plus the pull of a Gaussian prior
around the meta-initialization, so its result is a posterior mode, and near it
the posterior is about Gaussian (Laplace's approximation). The model carries a
diagonal estimate of that posterior's precision, learned with it, as its
preconditioner: prior precision L plus curvature h for each event seen. A draw

    w ~ N(user's weights, scale^2 diag(1 / (L + h n)))

and then the best items under w is Thompson sampling (Chapelle and Li, 2011,
"An Empirical Evaluation of Thompson Sampling", algorithm 3). It explores
along the weights of which little is known, and less with every event: much
for a new user, and hardly at all for one with thousands of events. Unlike
epsilon-greedy it never shows items that nothing speaks for. As weights are an
input of the model, it costs nothing more than a usual Recommend.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from serving.contract.manifest import AdaptiveManifest

# For a model that does not tell: a prior of standard deviation 1, and each
# event worth as much as the prior.
_DEFAULT_PRECISION = 1.0
_SEED_BYTES = 8


def posterior_std(
    manifest: AdaptiveManifest, num_events: float
) -> NDArray[np.float64]:
    """Returns the standard deviation of each weight's posterior, shape [P].

    Args:
        manifest: `prior_precision` and `event_curvature` of its inner loop,
            or its `prior_variance`.
        num_events: How many events the weights rest on.
    """
    settings = manifest.inner_loop
    if "prior_variance" in settings:
        # The Newton solver tells no curvature. 0: the value does not adapt.
        variance = np.asarray(settings["prior_variance"], float)
        std = np.sqrt(variance / (1.0 + num_events))
        return np.broadcast_to(std, manifest.num_adaptive)
    prior = settings.get("prior_precision", _DEFAULT_PRECISION)
    curvature = settings.get("event_curvature", _DEFAULT_PRECISION)
    precision = np.asarray(prior, float) + np.asarray(curvature) * num_events
    return np.broadcast_to(precision, manifest.num_adaptive) ** -0.5


def draw_weights(
    weights: NDArray[np.float32],
    std: NDArray[np.float64],
    user_id: str,
    seed: int,
) -> NDArray[np.float32]:
    """Draws weights around a user's own.

    Args:
        weights: The user's, shape [P].
        std: Standard deviation of each, shape [P].
        user_id: Users with the same seed get independent draws.
        seed: From 0; the same one draws the same for the same user.
    """
    digest = hashlib.blake2b(user_id.encode(), digest_size=_SEED_BYTES)
    random = np.random.default_rng(
        [seed, int.from_bytes(digest.digest(), "little")]
    )
    drawn = weights + std * random.standard_normal(len(weights))
    return drawn.astype(np.float32)
