"""A tiny SavedModel that honours the contract, and its oracle in NumPy.

Eight items with fixed vectors, three user features (one of each kind), and an
adaptive part of `DIM` user-vector offsets and one bias:

    score(item) = (user_vector + offset) . item_vector + item_bias + bias

so that `adapt` (gradient steps on the weighted mean logistic loss and a pull
toward the meta-initialization) has a closed form. Different seeds give
different fixed parts, hence other fingerprints, with the same shapes.
`export_toy` needs TensorFlow, the oracle does not.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    NUMERIC,
    Feature,
)
from serving.contract.manifest import (
    MANIFEST_FILE,
    AdaptiveManifest,
    AdaptiveParameter,
)
from serving.contract.meta_state import MetaState

DIM = 4
NUM_ADAPTIVE = DIM + 1
# Beside DIM values, each side has its bias and a 1 for the other's.
VECTOR_SIZE = DIM + 2
STEPS = 5
# Strength of the pull toward the meta-initialization.
PULL = 0.1
ITEM_IDS = tuple(f"{index:03d}" for index in range(8))
SEGMENTS = ("student", "engineer", "artist")
TAGS = ("drama", "comedy", "war")
USER_FEATURES = (
    Feature("segment", CATEGORICAL),
    Feature("tags", CATEGORICAL_LIST),
    Feature("age", NUMERIC),
)
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

Floats = NDArray[np.float32]
# Item ids, labels and weights (None: 1 each) of some rows.
Rows = tuple[Sequence[str], Any, Any]


@dataclasses.dataclass(frozen=True)
class ToyParameters:
    """Everything a toy consists of; NumPy arrays, float32.

    Attributes:
        item_vectors: Shape [items, DIM].
        item_biases: Shape [items].
        segment_vectors: Shape [segments + 1, DIM], the last for unknown.
        tag_vectors: Shape [tags, DIM].
        age_vector: Shape [DIM], added once per 100 years.
        meta_init: Shape [NUM_ADAPTIVE].
        log_inner_lr: Shape [STEPS, NUM_ADAPTIVE], about log 0.1.
    """

    item_vectors: Floats
    item_biases: Floats
    segment_vectors: Floats
    tag_vectors: Floats
    age_vector: Floats
    meta_init: Floats
    log_inner_lr: Floats

    @classmethod
    def from_seed(cls, seed: int = 0) -> "ToyParameters":
        """Draws a toy; other seeds differ in every value."""
        random = np.random.default_rng(seed)

        def draw(*shape: int) -> Floats:
            return random.normal(0.0, 0.5, shape).astype(np.float32)

        return cls(
            item_vectors=draw(len(ITEM_IDS), DIM),
            item_biases=draw(len(ITEM_IDS)),
            segment_vectors=draw(len(SEGMENTS) + 1, DIM),
            tag_vectors=draw(len(TAGS), DIM),
            age_vector=draw(DIM),
            meta_init=draw(NUM_ADAPTIVE),
            log_inner_lr=np.float32(np.log(0.1))
            + np.float32(0.4) * draw(STEPS, NUM_ADAPTIVE),
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the fixed part (everything but the meta state)."""
        digest = hashlib.sha256()
        for array in (
            self.item_vectors,
            self.item_biases,
            self.segment_vectors,
            self.tag_vectors,
            self.age_vector,
        ):
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def meta_state(self) -> MetaState:
        """The meta state as exported."""
        return MetaState(self.meta_init, self.log_inner_lr)

    def manifest(self, model_name: str = "adaptower") -> AdaptiveManifest:
        """Returns the manifest that `export_toy` writes."""
        return AdaptiveManifest(
            model_name=model_name,
            fingerprint=self.fingerprint,
            parameters=(
                AdaptiveParameter("user_tower/offset", (DIM,), 0),
                AdaptiveParameter("bias", (1,), DIM),
            ),
            meta_init=tuple(map(float, self.meta_init)),
            user_features=USER_FEATURES,
            reservoir_events=16,
            log_inner_lr=tuple(
                tuple(map(float, step)) for step in self.log_inner_lr
            ),
            inner_loop={"num_inner_steps": STEPS},
            vector_size=VECTOR_SIZE,
        )


@dataclasses.dataclass(frozen=True)
class ToyOracle:
    """The toy's mathematics in NumPy float64, one user at a time."""

    parameters: ToyParameters

    @classmethod
    def from_seed(cls, seed: int = 0) -> "ToyOracle":
        """The oracle of the toy of a seed."""
        return cls(ToyParameters.from_seed(seed))

    def user_vector(self, features: Mapping[str, Any]) -> NDArray[np.float64]:
        """Returns the user vector, shape [DIM].

        Args:
            features: Any of `segment` (str), `tags` (list of str) and `age`
                (float); a missing one may be left out.
        """
        parameters = self.parameters
        segment = features.get("segment", "")
        index = SEGMENTS.index(segment) if segment in SEGMENTS else -1
        vector = parameters.segment_vectors[index].astype(np.float64)
        for tag in features.get("tags", ()):
            if tag in TAGS:
                vector = vector + parameters.tag_vectors[TAGS.index(tag)]
        age = float(features.get("age", np.nan))
        if not np.isnan(age):
            vector = vector + parameters.age_vector * (age / 100.0)
        return vector

    def _items(
        self, item_ids: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        vectors = np.zeros((len(item_ids), DIM))
        biases = np.zeros(len(item_ids))
        for row, item_id in enumerate(item_ids):
            if item_id in ITEM_IDS:
                index = ITEM_IDS.index(item_id)
                vectors[row] = self.parameters.item_vectors[index]
                biases[row] = self.parameters.item_biases[index]
        return vectors, biases

    def rank(
        self,
        features: Mapping[str, Any],
        item_ids: Sequence[str],
        weights: Sequence[float] | NDArray[Any] | None = None,
    ) -> NDArray[np.float64]:
        """Returns the logits of the candidates, shape [candidates].

        Args:
            features: As in `user_vector`.
            item_ids: Candidates; unknown ones have a zero vector.
            weights: Adaptive weights, shape [NUM_ADAPTIVE]; meta_init if
                None.
        """
        if weights is None:
            weights = self.parameters.meta_init
        phi = np.asarray(weights, np.float64)
        vectors, biases = self._items(item_ids)
        user = self.user_vector(features) + phi[:DIM]
        scores: NDArray[np.float64] = vectors @ user + biases + phi[DIM]
        return scores

    def embed(
        self,
        features: Mapping[str, Any],
        item_ids: Sequence[str],
        weights: Sequence[float] | NDArray[Any],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns vectors whose dot products are the logits of `rank`.

        Returns:
            The user's, [VECTOR_SIZE], and the candidates', [candidates,
            VECTOR_SIZE].
        """
        phi = np.asarray(weights, np.float64)
        vectors, biases = self._items(item_ids)
        user = self.user_vector(features) + phi[:DIM]
        ones = np.ones_like(biases)
        return (
            np.concatenate([user, phi[DIM:], [1.0]]),
            np.column_stack([vectors, ones, biases]),
        )

    def adapt(
        self,
        features: Mapping[str, Any],
        item_ids: Sequence[str],
        labels: Sequence[float],
        event_weights: Sequence[float] | None = None,
        weights: Sequence[float] | NDArray[Any] | None = None,
        meta_state: MetaState | None = None,
    ) -> tuple[NDArray[np.float64], float, float]:
        """Runs the inner loop of one user.

        Args:
            features: As in `user_vector`.
            item_ids: Items of the support set.
            labels: Labels of the support set.
            event_weights: Weight of each event; 1 if None.
            weights: Where to start; meta_init if None.
            meta_state: Pull and step sizes; as exported if None.

        Returns:
            New adaptive weights of shape [NUM_ADAPTIVE], and the weighted
            mean loss before and after.
        """
        state = meta_state or self.parameters.meta_state
        return self._adapt(
            features,
            (item_ids, labels, event_weights),
            state.meta_init if weights is None else weights,
            state.meta_init.astype(np.float64),
            state.log_inner_lr.astype(np.float64),
        )

    def _adapt(
        self,
        features: Mapping[str, Any],
        rows: Rows,
        weights: Sequence[float] | NDArray[Any],
        meta_init: NDArray[np.float64],
        log_inner_lr: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], float, float]:
        item_ids, labels, event_weights = rows
        if event_weights is None:
            event_weights = np.ones(len(item_ids))
        phi = np.asarray(weights, np.float64)
        y = np.asarray(labels, np.float64)
        w = np.asarray(event_weights, np.float64)
        w = w / max(w.sum(), 1e-6)
        vectors, _ = self._items(item_ids)
        inputs = np.concatenate([vectors, np.ones((len(item_ids), 1))], axis=1)

        def loss(phi: NDArray[np.float64]) -> float:
            logits = self.rank(features, item_ids, phi)
            return float((w * (np.logaddexp(0.0, logits) - y * logits)).sum())

        before = loss(phi)
        for log_lr in log_inner_lr:
            logits = self.rank(features, item_ids, phi)
            error = w * (1.0 / (1.0 + np.exp(-logits)) - y)
            pull = PULL * (phi - meta_init)
            phi = phi - np.exp(log_lr) * (error @ inputs + pull)
        return phi, before, loss(phi)

    def query_loss(
        self,
        features: Mapping[str, Any],
        support: Rows,
        query_set: Rows,
        meta_init: NDArray[Any],
        log_inner_lr: NDArray[Any],
    ) -> float:
        """Mean query loss of one task after the inner loop from meta_init."""
        phi, _, _ = self._adapt(
            features, support, meta_init, meta_init, log_inner_lr
        )
        item_ids, labels, weights = query_set
        y = np.asarray(labels, np.float64)
        w = np.asarray(weights, np.float64)
        logits = self.rank(features, item_ids, phi)
        losses = np.logaddexp(0.0, logits) - y * logits
        return float(w @ losses / max(w.sum(), 1e-6))

    def meta_gradient(
        self,
        features: Mapping[str, Any],
        support: Rows,
        query_set: Rows,
        meta_state: MetaState,
        step: float = 1e-5,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Central differences of one task's query loss by the meta state.

        Returns:
            Slopes by meta_init [NUM_ADAPTIVE] and by log_inner_lr [STEPS,
            NUM_ADAPTIVE], and the loss.
        """
        init = meta_state.meta_init.astype(np.float64)
        log_lr = meta_state.log_inner_lr.astype(np.float64)

        def loss() -> float:
            return self.query_loss(features, support, query_set, init, log_lr)

        slopes = []
        for array in (init, log_lr):
            slope = np.empty_like(array)
            for place in np.ndindex(*array.shape):
                value = array[place]
                array[place] = value + step
                above = loss()
                array[place] = value - step
                slope[place] = (above - loss()) / (2 * step)
                array[place] = value
            slopes.append(slope)
        return slopes[0], slopes[1], loss()


def export_toy(
    base_path: str | Path,
    version: int = 1,
    seed: int = 0,
    model_name: str = "adaptower",
    warmup: bool = True,
) -> ToyOracle:
    """Exports a toy as `base_path/version` and returns its oracle.

    The folder is renamed into place when complete, as a pusher must.

    Args:
        base_path: Base path as given to a model server.
        version: Version folder to write.
        seed: Seed of the fixed part and the meta-init.
        model_name: Name in manifest and warm-up requests.
        warmup: Whether to write `tf_serving_warmup_requests`.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from tests.helpers.toy_module import build_toy_module

    parameters = ToyParameters.from_seed(seed)
    final = Path(base_path) / str(version)
    building = final.with_name(f".building-{version}")
    building.parent.mkdir(parents=True, exist_ok=True)
    module, signatures = build_toy_module(parameters)
    tf.saved_model.save(module, str(building), signatures=signatures)
    parameters.manifest(model_name).save(building)
    assert (building / MANIFEST_FILE).exists()
    if warmup:
        _write_warmup(building / WARMUP_FILE, model_name, parameters)
    building.rename(final)
    return ToyOracle(parameters)


def _write_warmup(
    path: Path, model_name: str, parameters: ToyParameters
) -> None:
    """Writes one `rank` request as TF Serving's PredictionLog records."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = "rank"
    inputs = {
        "segment": np.array([b"student"]),
        "tags": np.array([[b"drama"]]),
        "age": np.array([30.0], np.float32),
        "item_id": np.array([[b"000", b"001"]]),
        "adaptive_weights": parameters.meta_init[np.newaxis],
    }
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
