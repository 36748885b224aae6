"""The toy as a `tf.Module` with the signatures of the SavedModel contract."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tests.helpers.toy_model import (
    DIM,
    ITEM_IDS,
    NUM_ADAPTIVE,
    PULL,
    SEGMENTS,
    STEPS,
    TAGS,
    ToyParameters,
)

_FEATURE_SPECS = {
    "segment": tf.TensorSpec([None], tf.string, "segment"),
    "tags": tf.TensorSpec([None, None], tf.string, "tags"),
    "age": tf.TensorSpec([None], tf.float32, "age"),
}
_WEIGHTS_SPEC = tf.TensorSpec(
    [None, NUM_ADAPTIVE], tf.float32, "adaptive_weights"
)


def _table(keys: tuple[str, ...], default: int) -> tf.lookup.StaticHashTable:
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(keys), tf.range(len(keys), dtype=tf.int64)
        ),
        default,
    )


class ToyModule(tf.Module):
    """Variables and tables of the toy, and what its signatures compute."""

    def __init__(self, parameters: ToyParameters) -> None:
        super().__init__()
        self.item_table = _table(ITEM_IDS, len(ITEM_IDS))
        self.segment_table = _table(SEGMENTS, len(SEGMENTS))
        self.tag_table = _table(TAGS, len(TAGS))
        # The row after the last is the unknown item's (and padding's).
        self.item_vectors = tf.Variable(
            tf.pad(parameters.item_vectors, [[0, 1], [0, 0]])
        )
        self.item_biases = tf.Variable(tf.pad(parameters.item_biases, [[0, 1]]))
        self.segment_vectors = tf.Variable(parameters.segment_vectors)
        self.tag_vectors = tf.Variable(
            tf.pad(parameters.tag_vectors, [[0, 1], [0, 0]])
        )
        self.age_vector = tf.Variable(parameters.age_vector)
        self.meta_init = tf.Variable(parameters.meta_init)

    def user(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """User vectors without the adaptive offset, [B, DIM]."""
        age = features["age"][:, tf.newaxis]
        age = tf.where(tf.math.is_nan(age), tf.zeros_like(age), age)
        tags = self.tag_table.lookup(features["tags"])
        return (
            tf.gather(
                self.segment_vectors,
                self.segment_table.lookup(features["segment"]),
            )
            + tf.reduce_sum(tf.gather(self.tag_vectors, tags), axis=1)
            + self.age_vector * (age / 100.0)
        )

    def items(self, item_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Item vectors [B, N, DIM] and biases [B, N]."""
        index = self.item_table.lookup(item_id)
        return (
            tf.gather(self.item_vectors, index),
            tf.gather(self.item_biases, index),
        )

    def knows(self, item_id: tf.Tensor) -> tf.Tensor:
        """Which of the items the toy has, [B, N]."""
        return self.item_table.lookup(item_id) < len(ITEM_IDS)

    def score(
        self,
        user: tf.Tensor,
        items: tuple[tf.Tensor, tf.Tensor],
        weights: tf.Tensor,
    ) -> tf.Tensor:
        """Logits, [B, N]."""
        vectors, biases = items
        user = user + weights[:, :DIM]
        return tf.linalg.matvec(vectors, user) + biases + weights[:, DIM:]

    def loss(
        self, logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor
    ) -> tf.Tensor:
        """Weighted mean log loss of each user, [B]."""
        losses = tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
        return tf.reduce_sum(_shares(weight) * losses, axis=1)

    def adapt(
        self,
        user: tf.Tensor,
        rows: tuple[Any, tf.Tensor, tf.Tensor],
        phi: tf.Tensor,
        meta_init: tf.Tensor,
        log_inner_lr: tf.Tensor,
    ) -> tf.Tensor:
        """The inner loop, [B, NUM_ADAPTIVE]."""
        items, label, weight = rows
        for step in range(STEPS):
            logits = self.score(user, items, phi)
            error = _shares(weight) * (tf.sigmoid(logits) - label)
            gradient = tf.concat(
                [
                    tf.linalg.matvec(items[0], error, transpose_a=True),
                    tf.reduce_sum(error, axis=1, keepdims=True),
                ],
                axis=1,
            )
            gradient += PULL * (phi - meta_init)
            phi = phi - tf.exp(log_inner_lr[step]) * gradient
        return phi


def _shares(weight: tf.Tensor) -> tf.Tensor:
    """Weights of each user's rows, divided by their sum."""
    total = tf.reduce_sum(weight, axis=1, keepdims=True)
    return weight / tf.maximum(total, 1e-6)


def build_toy_module(
    parameters: ToyParameters,
) -> tuple[ToyModule, dict[str, Callable[..., Any]]]:
    """Builds the module and its signatures, ready for `saved_model.save`."""
    module = ToyModule(parameters)

    @tf.function
    def rank(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        items = module.items(inputs["item_id"])
        scores = module.score(
            module.user(inputs), items, inputs["adaptive_weights"]
        )
        return {"score": scores, "item_known": module.knows(inputs["item_id"])}

    @tf.function
    def embed(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors, biases = module.items(inputs["item_id"])
        weights = inputs["adaptive_weights"]
        bias = weights[:, DIM:]
        one = tf.ones_like
        return {
            "user_vector": tf.concat(
                [module.user(inputs) + weights[:, :DIM], bias, one(bias)], 1
            ),
            "item_vector": tf.concat(
                [
                    vectors,
                    tf.stack([one(biases), biases], axis=-1),
                ],
                axis=-1,
            ),
            "item_known": module.knows(inputs["item_id"]),
        }

    @tf.function
    def recommend(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        catalog = tf.constant([ITEM_IDS])
        user = module.user(inputs)
        weights = inputs["adaptive_weights"]
        scores = module.score(user, module.items(catalog), weights)
        excluded = tf.reduce_any(
            catalog[:, :, tf.newaxis]
            == inputs["exclude_item_id"][:, tf.newaxis, :],
            axis=2,
        )
        scores = tf.where(excluded, float("-inf"), scores)
        best = tf.math.top_k(scores, k=inputs["k"])
        return {
            "item_id": tf.gather(catalog[0], best.indices),
            "score": best.values,
        }

    @tf.function
    def adapt(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        user, items = module.user(inputs), module.items(inputs["item_id"])
        label, weight = inputs["label"], inputs["weight"]
        start = inputs["adaptive_weights"]
        phi = module.adapt(
            user,
            (items, label, weight),
            start,
            inputs["meta_init"],
            inputs["log_inner_lr"],
        )

        def loss(weights: tf.Tensor) -> tf.Tensor:
            return module.loss(
                module.score(user, items, weights), label, weight
            )

        def event_loss(weights: tf.Tensor) -> tf.Tensor:
            return tf.nn.sigmoid_cross_entropy_with_logits(
                label, module.score(user, items, weights)
            )

        return {
            "adaptive_weights": phi,
            "loss_before": loss(start),
            "loss_after": loss(phi),
            "event_loss": event_loss(start),
            "event_loss_meta_init": event_loss(
                tf.zeros_like(start) + inputs["meta_init"]
            ),
            "item_known": module.knows(inputs["item_id"]),
        }

    @tf.function
    def meta_gradient(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        user = module.user(inputs)
        support, query_set = (
            (
                module.items(inputs[f"{half}_item_id"]),
                inputs[f"{half}_label"],
                inputs[f"{half}_weight"],
            )
            for half in ("support", "query")
        )
        state = [inputs["meta_init"], inputs["log_inner_lr"]]
        with tf.GradientTape() as tape:
            tape.watch(state)
            start = tf.tile(state[0][tf.newaxis], [tf.shape(user)[0], 1])
            phi = module.adapt(user, support, start, *state)
            items, label, weight = query_set
            loss = module.loss(module.score(user, items, phi), label, weight)
        by_init, by_steps = tape.gradient(loss, state)
        return {
            "loss": loss,
            "meta_init_gradient": by_init,
            "log_inner_lr_gradient": by_steps,
        }

    @tf.function
    def score_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(
            examples,
            {
                "item_id": tf.io.FixedLenFeature([1], tf.string),
                "segment": tf.io.FixedLenFeature([], tf.string, ""),
                "tags": tf.io.RaggedFeature(tf.string),
                "age": tf.io.FixedLenFeature([], tf.float32, float("nan")),
            },
        )
        parsed["tags"] = parsed["tags"].to_tensor("")
        batch = tf.shape(examples)[0]
        weights = tf.tile(module.meta_init[tf.newaxis], [batch, 1])
        items = module.items(parsed["item_id"])
        scores = module.score(module.user(parsed), items, weights)
        return {"score": scores[:, 0]}

    def spec(name: str, dtype: tf.DType) -> tf.TensorSpec:
        return tf.TensorSpec([None, None], dtype, name)

    per_user = {**_FEATURE_SPECS, "adaptive_weights": _WEIGHTS_SPEC}
    item_id = spec("item_id", tf.string)
    meta_state = {
        "meta_init": tf.TensorSpec([NUM_ADAPTIVE], tf.float32, "meta_init"),
        "log_inner_lr": tf.TensorSpec(
            [STEPS, NUM_ADAPTIVE], tf.float32, "log_inner_lr"
        ),
    }

    def rows(prefix: str) -> dict[str, tf.TensorSpec]:
        return {
            f"{prefix}item_id": spec(f"{prefix}item_id", tf.string),
            f"{prefix}label": spec(f"{prefix}label", tf.float32),
            f"{prefix}weight": spec(f"{prefix}weight", tf.float32),
        }

    rank_signature = rank.get_concrete_function(**per_user, item_id=item_id)
    return module, {
        "serving_default": rank_signature,
        "rank": rank_signature,
        "embed": embed.get_concrete_function(**per_user, item_id=item_id),
        "recommend": recommend.get_concrete_function(
            **per_user,
            k=tf.TensorSpec([], tf.int32, "k"),
            exclude_item_id=spec("exclude_item_id", tf.string),
        ),
        "adapt": adapt.get_concrete_function(
            **per_user, **rows(""), **meta_state
        ),
        "meta_gradient": meta_gradient.get_concrete_function(
            **_FEATURE_SPECS, **rows("support_"), **rows("query_"), **meta_state
        ),
        "score_examples": score_examples.get_concrete_function(
            tf.TensorSpec([None], tf.string, "examples")
        ),
    }
