"""A model server's stand-in that answers with the toy's oracle, in process."""

import asyncio
import contextlib
import math
import threading

import grpc
import grpc.aio
import numpy as np

from serving.contract.meta_state import MetaState
from serving.errors import UnknownModelError
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor, encode_tensor
from tests.helpers.toy_model import ITEM_IDS, ToyOracle


class OracleBackend:
    """Has the methods of `serving.models.backend.ModelServer`.

    Attributes:
        versions: Oracle of each version that can answer; change it at will.
        calls: Signatures asked for, in order.
        adapt_result: If set, what `adapt` gives instead of the truth.
    """

    def __init__(self, versions: dict[int, ToyOracle]) -> None:
        self.versions = versions
        self.calls: list[str] = []
        self.adapt_result = None

    @contextlib.contextmanager
    def sound(self):
        """Answers the truth and counts nothing, for a first look at it."""
        calls, result = self.calls, self.adapt_result
        self.calls, self.adapt_result = [], None
        yield
        self.calls, self.adapt_result = calls, result

    async def available_versions(self, model):
        return sorted(self.versions, reverse=True)

    async def run(self, model, request):
        request = pb.PredictRequest.FromString(request)
        spec = request.model_spec
        assert spec.name == model
        outputs = await self.predict(
            spec.name, spec.version.value, spec.signature_name, request.inputs
        )
        wanted = request.output_filter or outputs
        return pb.PredictResponse(
            outputs={n: encode_tensor(outputs[n]) for n in wanted}
        )

    async def forward(self, method, request, seconds=None):
        spec = pb.PredictRequest.FromString(request).model_spec
        try:
            response = await self.run(spec.name, request)
        except UnknownModelError as error:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.NOT_FOUND,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(),
                str(error),
            ) from error
        return response.SerializeToString()

    async def predict(self, model, version, signature, inputs):
        self.calls.append(signature)
        if version not in self.versions:
            raise UnknownModelError(f"no version {version}")
        oracle = self.versions[version]
        values = {name: decode_tensor(t) for name, t in inputs.items()}
        if signature == "meta_gradient":
            return meta_gradient(oracle, values)
        if signature == "rank":
            return rank_rows(oracle, values)
        if signature == "embed":
            return embed_rows(oracle, values)
        features = features_of(values, 0)
        weights = values["adaptive_weights"][0]
        if signature == "recommend":
            return recommend(oracle, features, weights, values)
        outputs = adapt_rows(oracle, values)
        if self.adapt_result is not None:
            outputs["adaptive_weights"] = np.asarray(
                self.adapt_result, np.float32
            )[np.newaxis]
        return outputs


def hold_adapt(backend):
    """Keeps the next answers of `adapt` back.

    Returns:
        What is set when there is such an answer, and what lets them go.
    """
    learning, go_on = threading.Event(), threading.Event()
    run = backend.run

    async def held(model, request):
        answer = await run(model, request)
        if "adapt" in backend.calls[-1:] and not go_on.is_set():
            learning.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)
        return answer

    backend.run = held
    return learning, go_on


def adapt_rows(oracle, values):
    """What the signature answers, one row after the other."""
    state = MetaState(values["meta_init"], values["log_inner_lr"])
    rows = [
        oracle.adapt(
            features_of(values, row),
            texts(values["item_id"][row]),
            values["label"][row],
            values["weight"][row],
            weights,
            state,
        )
        for row, weights in enumerate(values["adaptive_weights"])
    ]
    adapted, before, after = zip(*rows, strict=True)
    return {
        "adaptive_weights": np.array(adapted, np.float32),
        "loss_before": np.array(before, np.float32),
        "loss_after": np.array(after, np.float32),
        "item_known": known_rows(values),
        **{
            name: event_losses(oracle, values, weights)
            for name, weights in (
                ("event_loss", values["adaptive_weights"]),
                ("event_loss_meta_init", [state.meta_init] * len(rows)),
            )
        },
    }


def event_losses(oracle, values, weights):
    """Loss of each event of each row under the row's weights."""
    logits = np.array(
        [
            oracle.rank(
                features_of(values, row), texts(values["item_id"][row]), own
            )
            for row, own in enumerate(weights)
        ]
    )
    losses = np.logaddexp(0.0, logits) - values["label"] * logits
    return losses.astype(np.float32)


def known_rows(values):
    return np.concatenate([known(texts(row)) for row in values["item_id"]])


def meta_gradient(oracle, values):
    """What the signature answers, one task after the other."""
    state = MetaState(values["meta_init"], values["log_inner_lr"])
    tasks = [
        oracle.meta_gradient(
            features_of(values, user),
            *(
                (
                    texts(values[f"{half}_item_id"][user]),
                    values[f"{half}_label"][user],
                    values[f"{half}_weight"][user],
                )
                for half in ("support", "query")
            ),
            state,
        )
        for user in range(len(values["support_label"]))
    ]
    by_init, by_steps, loss = zip(*tasks, strict=True)
    return {
        "loss": np.array(loss, np.float32),
        "meta_init_gradient": np.sum(by_init, axis=0, dtype=np.float32),
        "log_inner_lr_gradient": np.sum(by_steps, axis=0, dtype=np.float32),
    }


def features_of(values, user):
    """One user's features as the oracle takes them."""
    return {
        "segment": values["segment"][user].decode(),
        "tags": texts(values["tags"][user]),
        "age": values["age"][user],
    }


def texts(values):
    return [value.decode() for value in values]


def known(item_ids):
    return np.array([[item_id in ITEM_IDS for item_id in item_ids]])


def rank_rows(oracle, values):
    """What the signature answers, one row after the other.

    An input of one row counts for all of them, as in the models we export.
    """
    rows = max(map(len, values.values()))
    values = {
        name: np.broadcast_to(value, (rows, *value.shape[1:]))
        for name, value in values.items()
    }
    item_ids = [texts(row) for row in values["item_id"]]
    scores = [
        rank(oracle, features_of(values, row), items, weights)
        for row, (items, weights) in enumerate(
            zip(item_ids, values["adaptive_weights"], strict=True)
        )
    ]
    return {
        "score": np.array(scores, np.float32),
        "item_known": known_rows(values),
    }


def embed_rows(oracle, values):
    """What the signature answers; not finite as `rank` is not."""
    users, items = zip(
        *(
            oracle.embed(features_of(values, row), texts(item_ids), weights)
            for row, (item_ids, weights) in enumerate(
                zip(values["item_id"], values["adaptive_weights"], strict=True)
            )
        ),
        strict=True,
    )
    users = np.array(users, np.float32)
    users[[spoils(weights) for weights in values["adaptive_weights"]]] = np.nan
    return {
        "user_vector": users,
        "item_vector": np.array(items, np.float32),
        "item_known": known_rows(values),
    }


def spoils(weights):
    """Whether weights are such as no loop learns."""
    return not all(map(math.isfinite, weights)) or weights.max() > 1e6


def rank(oracle, features, item_ids, weights):
    """The oracle's scores; not finite for weights that no loop learns."""
    if spoils(weights):
        return np.full(len(item_ids), np.nan)
    return oracle.rank(features, item_ids, weights)


def recommend(oracle, features, weights, values):
    """What the signature answers: padded where exclusion leaves too few."""
    excluded = texts(values["exclude_item_id"][0])
    left = [item_id for item_id in ITEM_IDS if item_id not in excluded]
    scores = rank(oracle, features, left, weights)
    k = min(int(values["k"]), len(ITEM_IDS))
    best = np.argsort(-scores)[:k]
    padding = k - len(best)
    return {
        "item_id": np.array(
            [[left[i].encode() for i in best] + [b""] * padding], object
        ),
        "score": np.array([[*scores[best], *[-np.inf] * padding]], np.float32),
    }
