"""Requests sent to the server, and what its answers are compared with."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from components.cold_users import ColdUser
from components.infra_validator.contract_checks import EMBED
from components.served_model import (
    Inputs,
    ServedModel,
    adapt_inputs,
    feature_inputs,
    meta_gradient_inputs,
    pad_texts,
    rank_inputs,
)
from serving.contract.meta_tasks import MetaTask
from serving.contract.support import merge_support

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
TOLERANCE = 1e-5

Outputs = Mapping[str, NDArray[Any]]

_RPC_SECONDS = 30.0
_NUM_CANDIDATES = 20


@dataclasses.dataclass(frozen=True)
class Request:
    """One call of a signature.

    Attributes:
        origin: Where it comes from, for people.
        signature: The signature.
        inputs: Arrays by input name.
    """

    origin: str
    signature: str
    inputs: Inputs


def warmup_requests(model_dir: Path) -> list[Request]:
    """Reads the warm-up requests that lie in a SavedModel, if any."""
    path = model_dir / WARMUP_FILE
    if not path.exists():
        return []
    requests = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        requests.append(
            Request(
                "warm-up",
                request.model_spec.signature_name or "serving_default",
                {
                    name: tf.make_ndarray(tensor)
                    for name, tensor in request.inputs.items()
                },
            )
        )
    return requests


def example_requests(
    model: ServedModel, users: Sequence[ColdUser], top_k: int
) -> Iterator[Request]:
    """Makes requests as a gateway would for these users.

    Args:
        model: The candidate.
        users: A batch of users.
        top_k: How many items to ask `recommend` for.

    Yields:
        A request of `adapt`, `meta_gradient`, `rank` with what `adapt` gave,
        `embed` of the same if the model has it, and `recommend`.
    """
    features = feature_inputs(
        model.manifest.user_features, [user.features for user in users]
    )
    meta_state = model.manifest.meta_state
    first = [user.first_support for user in users]
    supports = [
        merge_support((), user.events(rows), 0, model.manifest.reservoir_events)
        for user, rows in zip(users, first, strict=True)
    ]
    adapt = Request(
        "examples",
        "adapt",
        adapt_inputs(
            features,
            supports,
            meta_state.initial_weights(len(users)),
            meta_state,
        ),
    )
    yield adapt
    weights = model.call("adapt", adapt.inputs)["adaptive_weights"]
    yield Request(
        "examples",
        "meta_gradient",
        meta_gradient_inputs(
            features,
            [
                MetaTask(
                    user.user_id,
                    None,
                    support.events,
                    user.events(range(support.count, len(user.item_ids))),
                )
                for user, support in zip(users, supports, strict=True)
            ],
            meta_state,
        ),
    )
    candidates = [user.item_ids[:_NUM_CANDIDATES] for user in users]
    ranked = rank_inputs(features, candidates, weights)
    yield Request("examples", "rank", ranked)
    if model.manifest.vector_size:
        yield Request("examples", EMBED, ranked)
    yield Request(
        "examples",
        "recommend",
        {
            **features,
            "adaptive_weights": weights,
            "k": np.array(top_k, np.int32),
            "exclude_item_id": pad_texts([user.item_ids[:1] for user in users]),
        },
    )


def predict(
    channel: grpc.Channel, model_name: str, request: Request
) -> Outputs:
    """Sends a request to a model server.

    Raises:
        grpc.RpcError: It does not answer, or with an error.
    """
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model_name
    message.model_spec.signature_name = request.signature
    for name, array in request.inputs.items():
        message.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.Predict(message, timeout=_RPC_SECONDS)
    return {
        name: tf.make_ndarray(tensor)
        for name, tensor in response.outputs.items()
    }


def answer_reasons(
    request: Request, answer: Outputs, expected: Outputs
) -> list[str]:
    """Refuses an answer that is not finite or not what the model computes.

    Args:
        request: What was asked.
        answer: What the server said.
        expected: What the SavedModel gives in process.
    """
    what = f"{request.signature} ({request.origin})"
    if set(answer) != set(expected):
        return [
            f"{what}: the server gives {sorted(answer)}, the SavedModel "
            f"{sorted(expected)}"
        ]
    reasons = []
    for name, values in answer.items():
        wanted = expected[name]
        if values.shape != wanted.shape:
            reasons.append(
                f"{what}: {name} has shape {list(values.shape)}, expected "
                f"{list(wanted.shape)}"
            )
        elif values.dtype.kind == "f":
            reasons += _number_reasons(f"{what}: {name}", values, wanted)
    if request.signature == "recommend" and not reasons:
        reasons += _recommend_reasons(what, request, answer, expected)
    return reasons


def _number_reasons(
    what: str, values: NDArray[Any], wanted: NDArray[Any]
) -> list[str]:
    if not np.isfinite(values).all():
        share = 1.0 - np.isfinite(values).mean()
        return [f"{what} is not finite in {share:.0%} of its values"]
    if np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE):
        return []
    worst = float(np.abs(values - wanted).max())
    return [
        f"{what} differs by up to {worst:.2g} from the SavedModel in process"
    ]


def _recommend_reasons(
    what: str, request: Request, answer: Outputs, expected: Outputs
) -> list[str]:
    reasons = []
    for row, (items, excluded) in enumerate(
        zip(answer["item_id"], request.inputs["exclude_item_id"], strict=True)
    ):
        if set(items) & (set(excluded) - {b""}):
            reasons.append(f"{what}: row {row} holds an excluded item")
        if len(set(items)) < len(items):
            reasons.append(f"{what}: row {row} holds an item twice")
        # Where scores tie, either order is right.
        gaps = np.abs(np.diff(expected["score"][row]))
        if (gaps > TOLERANCE).all() and list(items) != list(
            expected["item_id"][row]
        ):
            reasons.append(
                f"{what}: row {row} holds other items than the SavedModel's"
            )
    return reasons
