"""Answers a request with one version of a model, from first to last."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from serving.errors import UnknownModelError
from serving.gateway.registry import ModelRegistry, ServedModel

_Answer = TypeVar("_Answer")


async def on_current_version(
    registry: ModelRegistry,
    model_name: str,
    answer: Callable[[ServedModel], Awaitable[_Answer]],
) -> _Answer:
    """Answers with the pinned version, or once more with its successor.

    The model server may drop a version between two looks at its status.
    """
    model = registry.resolve(model_name)
    try:
        return await answer(model)
    except UnknownModelError:
        await registry.refresh()
        successor = registry.resolve(model_name)
        if successor is model:
            raise
        return await answer(successor)
