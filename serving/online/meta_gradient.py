"""Asks a model server how a meta state does on tasks, and which way is down."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaTask
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.models.templates import Features
from serving.online.model_calls import encode_request, padded
from serving.tf_serving import decode_tensor

_META_GRADIENT = "meta_gradient"


async def meta_gradient(
    backend: ModelServer,
    model: ServedModel,
    tasks: Sequence[MetaTask[Features]],
    state: MetaState,
) -> MetaGradient:
    """Returns the tasks' losses after the inner loop, and their gradient.

    Args:
        backend: The model server.
        model: The version to ask.
        tasks: At least one; the context of each is what is known of its user.
        state: Where the inner loop starts, and its step sizes.

    Raises:
        BackendError: The model server fails, or refuses.
    """
    texts, numbers = {}, dict[str, NDArray[Any]](state.inputs())
    for half, events in (
        ("support", [task.support for task in tasks]),
        ("query", [task.query_set for task in tasks]),
    ):
        texts[f"{half}_item_id"] = [
            [event.item_id for event in own] for own in events
        ]
        numbers[f"{half}_label"] = padded(
            [[event.label for event in own] for own in events]
        )
        numbers[f"{half}_weight"] = padded([[1.0] * len(e) for e in events])
    response = await backend.run(
        model.name,
        encode_request(
            model,
            _META_GRADIENT,
            [task.context for task in tasks],
            texts,
            numbers,
        ),
    )
    return MetaGradient.of_outputs(
        {
            name: decode_tensor(tensor)
            for name, tensor in response.outputs.items()
        }
    )
